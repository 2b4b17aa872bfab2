"""`idempotent=`: a repeated request happens once, whatever happens between."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from nucleon import App, Conflict, Created, Header, Model, Response, SetupError, Unauthorized, green
from nucleon.redis import Redis
from nucleon.secret import Secret
from nucleon.testing import Answer, Client, eventually


class Payment(Model):
    id: int
    amount: int


class NewPayment(Model):
    amount: int


class User(Model):
    id: str


def user(authorization: Header[str] = "") -> User:
    if not authorization:
        raise Unauthorized("who are you?")
    return User(authorization)


class Shop:
    """A service whose only effect is the list of its payments."""

    def __init__(self, redis: Redis, **extras: Any) -> None:
        self.app = App("shop")
        self.redis = self.app.use(redis)
        self.payments: list[int] = []
        self.go = green.Event()
        self.go.set()
        self.failure: Exception | None = None

        @self.app.post("/payments", **{"idempotent": True, **extras})
        def pay(body: NewPayment) -> Created[Payment]:
            self.payments.append(body.amount)
            self.go.wait()
            if self.failure is not None:
                raise self.failure
            return Created(Payment(len(self.payments), body.amount))

        @self.app.get("/payments/{id}")
        def read(id: int) -> Payment:
            return Payment(id, 0)

    def pay(self, key: str | None = '"k1"', amount: int = 5, **headers: str) -> Answer:
        sent = {"content-type": "application/json", **headers, **({} if key is None else {"idempotency-key": key})}
        return Client(self.app).post("/payments", body=b'{"amount": %d}' % amount, headers=sent)


def test_a_repetition_gets_the_first_answer_and_nothing_happens_again(redis: Redis) -> None:
    shop = Shop(redis)
    first, again = shop.pay(), shop.pay()
    assert (first.status, first.headers["location"], first.json()) == (201, "/payments/1", {"id": 1, "amount": 5})
    assert (again.status, again.headers["location"], again.body) == (201, "/payments/1", first.body)
    assert again.headers["idempotent-replayed"] == "true" and "idempotent-replayed" not in first.headers
    assert shop.payments == [5]
    assert shop.pay(key="k2").status == 201 and shop.pay(key=None).status == 201
    assert len(shop.payments) == 3


def test_a_repetition_while_the_first_runs_is_a_409_that_says_when_to_come_back(redis: Redis) -> None:
    shop = Shop(redis)
    shop.go.clear()
    first = green.spawn(shop.pay)
    eventually(lambda: shop.payments)
    again = shop.pay()
    assert (again.status, again.headers["retry-after"]) == (409, "1")
    shop.go.set()
    assert (first.get().status, shop.pay().status, len(shop.payments)) == (201, 201, 1)


def test_a_hundred_at_once_pay_once(redis: Redis) -> None:
    shop = Shop(redis)
    shop.go.clear()
    all_of_them = [green.spawn(shop.pay) for _ in range(100)]
    eventually(lambda: shop.payments)
    green.sleep(0.05)
    shop.go.set()
    statuses = sorted(one.get().status for one in all_of_them)
    assert statuses.count(201) >= 1 and set(statuses) <= {201, 409}
    assert shop.payments == [5]


def test_the_same_key_with_another_content_is_a_422(redis: Redis) -> None:
    shop = Shop(redis)
    shop.pay()
    refused = shop.pay(amount=6)
    assert refused.status == 422 and "another content" in refused.problem["detail"]
    assert shop.payments == [5]


def test_what_failed_has_freed_its_key(redis: Redis) -> None:
    shop = Shop(redis)
    for failure, status in ((Conflict("sold out"), 409), (ValueError("a bug"), 500)):
        shop.failure = failure
        assert shop.pay().status == status
    shop.failure = None
    assert shop.pay().status == 201
    assert shop.pay(key='"k2"', amount=1).status == 201
    assert Client(shop.app).post("/payments", json={"amount": "x"}, headers={"idempotency-key": "k3"}).status == 422
    assert shop.pay(key="k3").status == 201, "a body that was refused did nothing"


def test_a_request_killed_in_the_middle_has_freed_its_key(redis: Redis) -> None:
    shop = Shop(redis)
    shop.go.clear()
    victim = green.spawn(shop.pay)
    eventually(lambda: shop.payments)
    victim.kill()
    shop.go.set()
    assert shop.pay().status == 201


@pytest.mark.parametrize("turns", range(8))
def test_a_request_killed_after_its_work_was_done_is_not_done_again(redis: Redis, turns: int) -> None:
    store = redis.idempotency()
    shop = Shop(redis, idempotent=store)
    victim = green.spawn(shop.pay)
    eventually(lambda: shop.payments, every_seconds=0)
    for _ in range(turns):
        green.sleep(0)
    victim.kill()
    eventually(lambda: shop.pay().status == 201)
    eventually(lambda: "0 waiting for Redis" in repr(store))
    assert shop.payments == [5]


def test_a_key_of_a_process_that_died_is_free_after_running_seconds(redis: Redis) -> None:
    shop = Shop(redis, idempotent=redis.idempotency(running_seconds=0.2))
    shop.go.clear()
    green.spawn(shop.pay)
    eventually(lambda: shop.payments)  # the greenlet stands for the process: it never finishes within the time
    assert shop.pay().status == 409
    eventually(lambda: redis.dbsize() == 0)
    shop.go.set()
    assert shop.pay().status == 201


def test_keys_of_different_users_are_different_keys(redis: Redis) -> None:
    shop = Shop(redis, auth=user)
    anns = shop.pay(authorization="ann", amount=1)
    bens = shop.pay(authorization="ben", amount=2)
    assert (anns.json()["amount"], bens.json()["amount"]) == (1, 2)
    assert shop.pay(amount=1).status == 401, "a kept answer is not for strangers"
    assert shop.pay(authorization="ann", amount=1).json() == anns.json()


@pytest.mark.parametrize(
    ("key", "status"), [('"a b"', 201), ("plain-token_1", 201), ('""', 400), ("a b", 400), ("x" * 256, 400), ('"ä"', 400)]
)
def test_keys_are_quoted_texts_or_tokens(redis: Redis, key: str, status: int) -> None:
    assert Shop(redis).pay(key=key).status == status


def test_a_required_key_that_is_missing_is_a_400(redis: Redis) -> None:
    shop = Shop(redis, idempotent=redis.idempotency(required=True))
    assert shop.pay(key=None).status == 400
    assert shop.payments == []


def test_with_redis_away_nothing_happens_that_had_to_happen_once(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    shop = Shop(redis)
    redis_server.stop()
    assert shop.pay().status == 503
    assert shop.payments == []
    assert shop.pay(key=None).status == 201
    redis.stop()


def test_an_answer_is_kept_even_when_redis_went_away_in_between(redis_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    redis = Redis(url=Secret(redis_server.url))
    store = redis.idempotency()
    shop = Shop(redis, idempotent=store)
    shop.go.clear()
    first = green.spawn(shop.pay)
    eventually(lambda: shop.payments)
    redis_server.stop()
    shop.go.set()
    assert first.get().status == 201
    redis_server.start()
    eventually(lambda: "0 waiting for Redis" in repr(store))
    assert (shop.pay().status, shop.payments) == (201, [5])
    redis.stop()


def test_a_kept_answer_outlives_a_restart_of_redis_and_a_lost_one_lets_the_request_run_again(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    shop = Shop(redis)
    first = shop.pay()
    redis_server.restart()
    assert shop.pay().body == first.body
    redis.flushall()
    assert (shop.pay().status, len(shop.payments)) == (201, 2)
    redis.stop()


def test_a_group_may_be_idempotent_with_streams_for_reading_in_it(redis: Redis) -> None:
    app = App("a")
    group = app.group("/g", idempotent=redis.idempotency(), cache=redis.answers(ttl_seconds=60))

    @group.post("/stream", idempotent=False)
    def write() -> Iterator[int]:
        yield 1

    @group.get("/stream", cache=None)
    def read() -> Iterator[int]:
        yield 2

    assert Client(app).get("/g/stream").body == b"2\n"


def test_a_request_that_outlived_its_claim_does_not_overwrite_the_next(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    store = redis.idempotency(running_seconds=0.1)
    shop = Shop(redis, idempotent=store)
    shop.go.clear()
    slow = green.spawn(shop.pay)
    eventually(lambda: shop.payments)
    eventually(lambda: redis.dbsize() == 0)
    quick = green.spawn(shop.pay)
    eventually(lambda: len(shop.payments) == 2)
    with caplog.at_level(logging.ERROR, "nucleon.redis"):
        shop.go.set()
        assert {slow.get().status, quick.get().status} == {201}
    assert shop.pay().headers["idempotent-replayed"] == "true"


def test_an_answer_too_large_to_keep_is_said_to_be_done(redis: Redis) -> None:
    shop = Shop(redis, idempotent=redis.idempotency(maximum_bytes=5))
    assert (shop.pay().status, shop.pay().status, len(shop.payments)) == (201, 409, 1)


def test_routes_that_cannot_keep_an_answer_are_refused_at_start_up(redis: Redis) -> None:
    app = App("a")

    @app.post("/stream", idempotent=redis.idempotency())
    def stream() -> Iterator[int]:
        yield 1

    @app.post("/nowhere", idempotent=True)
    def nowhere() -> Response:
        return Response()

    with pytest.raises(SetupError, match="a stream cannot be kept") as caught:
        app.check()
    assert "the app has 0" in str(caught.value)
    with pytest.raises(TypeError, match="idempotent= is True or"):
        app.post("/x", idempotent="yes")  # type: ignore[arg-type]


def test_a_kept_answer_that_cannot_be_read_is_said_to_be_done(redis: Redis) -> None:
    shop = Shop(redis)
    assert shop.pay().status == 201
    key = redis.keys("idempotent:*")[0]
    redis.set(key, redis.get(key)[:17] + b"of another release")
    answer = shop.pay()
    assert answer.status == 409 and "was done" in answer.text
    assert shop.payments == [5]
