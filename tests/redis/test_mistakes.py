"""What a program says wrongly is told where it is written, in words that say what to change."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from redis.exceptions import DataError

from nucleon import App, Model
from nucleon.config import load
from nucleon.errors import SetupError, Unavailable
from nucleon.redis import Consumption, Redis, Session, Sessions, Settings
from nucleon.redis.sessions import SessionSettings
from nucleon.secret import Secret
from nucleon.testing import eventually


class Item(Model):
    id: int
    parts: "list[Item]" = []


class Plain:
    pass


class Holder(Model):
    inside: dict[str, list[Plain]]


class Login(Model):
    user: str


@pytest.mark.parametrize("kind", [Plain, Holder, list[Plain], Iterator[int]], ids=str)
def test_a_type_that_json_cannot_carry_is_refused_where_it_is_written(redis: Redis, kind: Any) -> None:
    def kept() -> Any: ...

    kept.__annotations__["return"] = kind
    for make in (
        lambda: redis.of(kind, "k:{id}", ttl_seconds=1),
        lambda: redis.cached("k", ttl_seconds=1)(kept),
        lambda: redis.stream(kind, "k"),
        lambda: redis.topic(kind, "k"),
        lambda: Sessions(redis, kind),
    ):
        with pytest.raises(SetupError, match=r"^(cache|stream|topic) 'k|^Sessions\(\)"):
            make()


@pytest.mark.parametrize("kind", [Item, int, dict[str, Any], list[Item] | None, tuple[int, date], Any, object], ids=str)
def test_types_of_values_are_taken(redis: Redis, kind: Any) -> None:
    redis.of(kind, "k:{id}", ttl_seconds=1)
    redis.stream(kind, "k")


def test_type_and_name_in_the_wrong_order_are_told(redis: Redis) -> None:
    swapped: Any = redis.stream
    with pytest.raises(SetupError, match="'orders' is no type of values"):
        swapped("orders", Item)


def test_a_load_that_returns_something_else_than_its_type_is_told_once(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    wrong: Any = 5
    items = redis.of(Item, "wrong:{id}", ttl_seconds=60)
    for _ in range(3):
        items.get_or(lambda id: wrong, id=1)
    assert items.unreadable == 2
    assert caplog.text.count("is not of its type") == 1


def test_a_consumption_wants_a_group_and_a_handler_of_one_value(redis: Redis) -> None:
    orders = redis.stream(Item, "orders")
    group: Any = orders
    with pytest.raises(SetupError, match="takes a group of a stream"):
        Consumption(group, print)
    nothing: Any = lambda: None  # noqa: E731
    with pytest.raises(SetupError, match="with one value: too many positional arguments"):
        Consumption(orders.group("billing"), nothing)


def test_the_log_of_a_failed_entry_says_what_becomes_of_it(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    def fail(item: Item) -> None:
        raise ValueError("no such account")

    orders = redis.stream(Item, "failing")
    billing = Consumption(orders.group("billing", block_seconds=0.05), fail).start()
    orders.add(Item(id=1))
    eventually(lambda: "no such account" in caplog.text)
    billing.stop()
    assert "of 'failing', group 'billing' failed, try 1 of 5; tried again after 60 s" in caplog.text


def test_a_value_that_redis_cannot_take_is_named_by_its_place(redis: Redis) -> None:
    wrong: Any = Item(id=1)
    with pytest.raises(DataError, match=r"must be str, int, float or bytes. \(SET: argument 2 is of type Item\)"):
        redis.set("k", wrong)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:hush@localhost:1/abc", "the number of a database, such as /0"),
        ("redis://:hush@localhost:1/0?max_conections=3", "a parameter behind"),
        ("redis://:hush@localhost:1/0?socket_keepalve=1", "is it socket_keepalive?"),
        ("redis://:hush@localhost:1/0?max_connections=3", "set max_connections in the settings"),
        ("redis://:hush@localhost:1/0?timeout=3", "set wait_seconds in the settings"),
        ("redis://:hush/hash@localhost:1/0", "%2F for '/'"),
        ("redis://:12?hush=1@localhost:1/0", "%3F for"),
        ("redis://:1/hush@localhost:1", "%2F for '/'"),
        ("redis://localhost:port", "the host or the port is none"),
        ("localhost:6379", "must specify one of the following schemes"),
    ],
)
def test_an_address_that_cannot_be_read_is_told_at_the_start_without_its_password(url: str, said: str) -> None:
    with pytest.raises(SetupError) as caught:
        Redis(url=Secret(url))
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)


def test_parameters_of_redis_pys_connections_work() -> None:
    redis = Redis(url=Secret("redis://localhost:1/2?socket_keepalive=yes&client_name=shop&db=3"))
    assert "database 3" in repr(redis)


@pytest.mark.parametrize(("password", "said"), [("", "the url has none"), (":wrong@", "refuses this user or password")])
def test_the_log_says_whether_a_password_is_missing_or_wrong(
    private_valkey: Any, caplog: pytest.LogCaptureFixture, password: str, said: str
) -> None:
    open_redis = Redis(url=Secret(private_valkey.url))
    open_redis.config_set("requirepass", "right")
    closed = Redis(url=Secret(private_valkey.url.replace("://", f"://{password}")), wait_seconds=0.05)
    try:
        with pytest.raises(Unavailable):
            closed.ping()
        assert said in caplog.text
        assert "wrong" not in caplog.text.replace("wrong user", "")
    finally:
        closed.stop()
        open_redis.config_set("requirepass", "")
        open_redis.stop()


def test_a_setting_that_does_not_fit_is_told_beside_a_secret() -> None:
    given = {"NUCLEON_REDIS__URL": "redis://:hush@h", "NUCLEON_REDIS__LOCAL_BYTES": "5", "NUCLEON_SESSION__SECRET": "hush"}
    with pytest.raises(SetupError) as caught:
        load({"redis": Settings, "session": SessionSettings}, environment="production", folder=None, variables=given)
    said = str(caught.value)
    assert "NUCLEON_REDIS__LOCAL_BYTES: [redis]: local_bytes needs protocol = 3" in said
    assert "NUCLEON_SESSION__SECRET: [session]: secret must have at least 16 characters" in said
    assert "hush" not in said


def test_a_session_that_nothing_provides_is_told_at_the_start(redis: Redis) -> None:
    app = App("shop")
    Sessions(redis, Login).install(app)

    @app.get("/me")
    def me(session: Session[Item]) -> int:
        return 1

    with pytest.raises(SetupError, match=r"nothing provides Session\[Item\]"):
        app.routes()


def test_what_is_no_resource_and_no_queue_is_refused(redis: Redis) -> None:
    app = App("shop")
    with pytest.raises(SetupError, match=r"write app.use\(Redis\(\)\)"):
        app.use(Redis)
    group: Any = redis.stream(Item, "orders").group("billing")
    with pytest.raises(SetupError, match="a group of a Redis stream: Consumption"):
        app.consume(group)


def test_addresses_as_redis_py_takes_them_are_told_how_they_are_written_here() -> None:
    with pytest.raises(SetupError, match=r"app\.use"):
        Redis.from_url("redis://localhost")
    plain: Any = "redis://localhost"
    with pytest.raises(SetupError, match=r'Secret\("redis://'):
        Redis(url=plain)
    with pytest.raises(SetupError, match="the address of the server is url"):
        Redis(host="localhost")


def test_a_wrong_address_is_told_with_the_variable_that_holds_it() -> None:
    with pytest.raises(SetupError, match=r"^environment variable REDIS_URL: \[redis\]: the url of Redis cannot be read"):
        load({"redis": Settings}, environment="production", folder=None, variables={"REDIS_URL": "redis://:hush@host/abc"})


def test_a_typed_cache_and_a_text_are_refused_as_what_a_route_keeps_and_allows(redis: Redis) -> None:
    app = App("shop")
    wrong: Any = redis.of(Item, "k:{id}", ttl_seconds=1)
    with pytest.raises(TypeError, match=r"cache.answers\(...\), not <Cache"):
        app.get("/a", cache=wrong)(lambda: None)
    text: Any = "10/s"
    with pytest.raises(TypeError, match="not '10/s'"):
        app.get("/b", limits=text)(lambda: None)




def test_an_outage_is_told_at_its_begin_and_its_end_and_not_with_every_try(private_valkey: Any, caplog: pytest.LogCaptureFixture) -> None:
    redis = Redis(url=Secret(private_valkey.url), wait_seconds=0.05)
    redis.ping()
    with redis.hub().subscribe("news"):
        private_valkey.stop()

        def tries() -> int:
            with pytest.raises(Unavailable):
                redis.ping()
            return caplog.text.count("try 4")

        eventually(tries)
        private_valkey.start()
        redis.ping()
        eventually(lambda: "redis: connected again after" in caplog.text and "the hub hears Redis again" in caplog.text)
    assert caplog.text.count("the hub has lost Redis") == 1
    assert "try 3" not in caplog.text
    redis.stop()
