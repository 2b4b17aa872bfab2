"""The cache and kept answers under attack: foreign bytes, kills, errors shared by many, values too large, invalidations in the middle."""

import logging
from dataclasses import dataclass
from typing import Any

import gevent
import pytest
from killing import killed_at_switch

from nucleon import green
from nucleon.errors import DeadlineExceeded, NotFound, SetupError
from nucleon.redis import Redis
from nucleon.redis.cache import Cache, Keeping
from nucleon.secret import Secret
from nucleon.testing import eventually


def texts_on(client: Redis, **keeping: Any) -> Cache[str]:
    return client.of(str, "text:{id}", **{"ttl_seconds": 60, **keeping})


@pytest.mark.parametrize("foreign", [b'"\xff"', b"[" * 100_000, b"no JSON", b'5"'])
def test_a_value_that_cannot_be_read_is_a_miss_whatever_is_wrong_with_it(redis: Redis, foreign: bytes) -> None:
    texts = redis.of(object, "text:{id}", ttl_seconds=60)
    texts.put("good", id=1)
    stored = redis.get("text:1")
    redis.set("text:1", stored[:32] + foreign)
    assert texts.get(id=1) is None
    assert texts.get_or(lambda id: "loaded", id=1) == "loaded"
    assert texts.get(id=1) == "loaded"


def test_an_error_that_many_share_does_not_grow_with_them(redis: Redis) -> None:
    texts, go = texts_on(redis), green.Event()
    lengths = []

    def fail(id: int) -> str:
        go.wait()
        raise KeyError("broken")

    def read() -> None:
        try:
            texts.get_or(fail, id=1)
        except KeyError as error:
            lengths.append(length_of(error.__traceback__))

    readers = [gevent.spawn(read) for _ in range(100)]
    eventually(lambda: [flight for flight in texts._flights.values() if flight.waiting == 99])
    go.set()
    gevent.joinall(readers)
    assert len(lengths) == 100 and max(lengths) <= 20


def length_of(trace: Any) -> int:
    return 0 if trace is None else 1 + length_of(trace.tb_next)


def test_a_time_limit_of_the_load_itself_is_an_error_for_all_who_wait(redis: Redis) -> None:
    texts, count = texts_on(redis), 0

    def slow(id: int) -> str:
        nonlocal count
        count += 1
        with green.deadline(0.1):
            green.sleep(5)
        return "never"

    def read() -> str:
        with green.deadline(20):
            try:
                return texts.get_or(slow, id=1)
            except DeadlineExceeded:
                return "too slow"

    readers = [green.spawn(read) for _ in range(30)]
    assert [reader.get(timeout=20) for reader in readers] == ["too slow"] * 30
    assert count == 1


def test_an_invalidation_whose_greenlet_is_killed_happens_all_the_same(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    texts = texts_on(redis)
    texts.put("old", id=1)
    redis_server.stop()
    committing = gevent.spawn(texts.invalidation(id=1))
    gevent.sleep(0)
    assert not committing.dead
    committing.kill()
    redis_server.start()
    eventually(lambda: redis.ping())
    eventually(lambda: texts.get(id=1) is None)
    redis.stop()


def test_a_value_larger_than_a_reply_may_be_is_given_and_not_kept(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    redis = Redis(url=Secret(redis_url), reply_bytes=100_000)
    texts = texts_on(redis)
    for _ in range(2):
        assert len(texts.get_or(lambda id: "x" * 200_000, id=1)) == 200_000
    texts.put("small", id=2)
    texts.put("x" * 200_000, id=2)
    assert texts.get(id=2) is None
    assert "reply_bytes" in caplog.text
    redis.stop()


def test_an_absence_may_name_what_is_no_text(redis: Redis) -> None:
    def absent(id: str) -> str:
        raise NotFound(f"no {id}")

    texts = texts_on(redis, negative_seconds=5)
    for _ in range(2):
        with pytest.raises(NotFound, match="no 7"):
            texts.get_or(lambda id: absent("7\udcff"), id=7)


@pytest.mark.parametrize("how", ["invalidate", "invalidation"])
def test_a_copy_in_the_worker_does_not_outlive_an_invalidation_by_the_same_worker(redis: Redis, how: str) -> None:
    kept = redis.answers(ttl_seconds=60, local_seconds=30)
    body, go = b"old", green.Event()

    def load() -> tuple[list[tuple[str, str]], bytes]:
        read = body
        go.wait()
        return [], read

    reading = green.spawn(kept.get_or, " /item?", load)
    eventually(lambda: kept._cache.loads)
    body = b"new"
    if how == "invalidate":
        kept.invalidate("/item")
    else:
        kept.invalidation("/item")()
    go.set()
    assert reading.get(timeout=5).body == b"old"
    assert kept.get_or(" /item?", load).body == b"new"
    assert not kept._asking


def test_an_answer_that_is_read_while_it_is_invalidated_is_not_copied(redis: Redis) -> None:
    redis.answers(ttl_seconds=60).get_or(" /item?", lambda: ([], b"old"))
    kept = redis.answers(ttl_seconds=60, local_seconds=30)
    reading = green.spawn(kept.get_or, " /item?", lambda: ([], b"old"))
    invalidating = green.spawn(kept.invalidate, "/item")
    gevent.joinall([reading, invalidating])
    assert kept.get_or(" /item?", lambda: ([], b"new")).body == b"new"


@pytest.mark.parametrize("pattern", ["item:{id", "item:}", "item:{}", "item:{a.b}", 5])
def test_a_pattern_that_is_none_is_refused_with_an_example(redis: Redis, pattern: Any) -> None:
    with pytest.raises(SetupError, match="such as 'item:"):
        Cache(redis, str, pattern, Keeping(ttl_seconds=1))


def test_the_waiters_of_a_killed_process_load_themselves(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    texts = texts_on(redis, load_seconds=0.3)
    redis.set("{text:1}:load", "somebody who died", px=300)
    with caplog.at_level(logging.WARNING):
        assert texts.get_or(lambda id: "mine", id=1) == "mine"
    assert texts.get(id=1) == "mine" and not redis.exists("{text:1}:load")


@dataclass
class Basket:
    names: list[str]


def test_who_waited_for_the_same_load_gets_a_value_of_his_own(redis: Redis) -> None:
    baskets = redis.of(Basket, "basket:{id}", ttl_seconds=60)

    def load(id: int) -> Basket:
        green.sleep(0.05)
        return Basket(["apple"])

    def change(name: str) -> list[str]:
        basket = baskets.get_or(load, id=1)
        basket.names.append(name)
        green.sleep(0.01)
        return basket.names

    changing = [green.spawn(change, name) for name in "abc"]
    assert [one.get(timeout=5) for one in changing] == [["apple", name] for name in "abc"]
    assert baskets.loads == 1


def test_who_waited_for_a_load_that_failed_gets_a_problem_of_his_own(redis: Redis) -> None:
    class NoSuch(NotFound):
        number: int

    def absent(id: int) -> str:
        green.sleep(0.05)
        raise NoSuch("no such text", number=id)

    def ask(name: str) -> str:
        with pytest.raises(NoSuch, match="no such text") as raised:
            texts.get_or(absent, id=1)
        raised.value.headers = {**raised.value.headers, "Who": name}
        green.sleep(0.01)
        assert raised.value.number == 1
        return raised.value.headers["Who"]

    texts = texts_on(redis)
    asking = [green.spawn(ask, name) for name in "abc"]
    assert [one.get(timeout=5) for one in asking] == ["a", "b", "c"]
    assert texts.loads == 1


def test_an_object_without_a_text_of_its_own_is_no_part_of_a_key(redis: Redis) -> None:
    """`<User object at 0x7f...>` names a place in memory, where another user may be next."""

    class User:
        pass

    for make in (lambda user: texts_on(redis).key(id=user), lambda user: redis.rate("a", 1, per_seconds=1).take(user)):
        with pytest.raises(TypeError, match="its id"):
            make(User())
    assert texts_on(redis).key(id="seen at 0x10") == "text:seen at 0x10"


def test_a_reader_killed_at_any_wait_holds_no_other_worker_off(redis: Redis, redis_url: str) -> None:
    other = Redis(url=Secret(redis_url))
    switch, is_over = 1, False
    while not is_over:
        here, there = (client.of(str, f"text {switch}:{{id}}", ttl_seconds=60) for client in (redis, other))
        is_over = killed_at_switch(switch, lambda here=here: here.get_or(lambda id: green.sleep(0.001) or "read", id=1))
        assert not here._flights
        with green.deadline(5):  # half of load_seconds
            assert there.get_or(lambda id: "read", id=1) == "read"
        switch += 1
    assert switch > 4
    other.stop()


def test_an_invalidation_needs_no_memory(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    texts = texts_on(redis)
    texts.put("old", id=1)
    redis.config_set("maxmemory", "1")
    texts.invalidate(id=1)
    assert texts.get(id=1) is None
    redis.stop()
