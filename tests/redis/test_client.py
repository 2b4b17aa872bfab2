"""The client: redis-py's commands, bounded waits, errors as problems."""

import inspect
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from time import monotonic
from typing import Any, ClassVar
from unittest import mock

import pytest
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import ResponseError

from nucleon import green, hooks
from nucleon.errors import DeadlineExceeded, SetupError, Unavailable
from nucleon.redis import Redis, Settings
from nucleon.secret import Secret


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    client = Redis(url=Secret(redis_url), max_connections=3, wait_seconds=0.2)
    yield client
    client.stop()


def silent_server() -> socket.socket:
    """A server that accepts and never answers."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(8)
    return listener


def test_commands_of_redis_py_are_methods(redis: Redis) -> None:
    redis.hset("h", mapping={"a": 1, "b": 2})
    assert redis.incr("n") == 1
    assert redis.hgetall("h") == {b"a": b"1", b"b": b"2"}
    assert redis.rpush("l", "x", "y") == 2
    assert list(redis.blpop(["l"], timeout=1) or ()) == [b"l", b"x"]


def test_tests_of_an_application_may_put_other_methods_in_place(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "get", lambda name: "in place")
    assert redis.get("k") == "in place"
    monkeypatch.undo()
    with mock.patch.object(Redis, "execute_command", return_value="nothing sent") as sent:
        assert [redis.get("k"), redis.incr("k"), redis["k"]] == ["nothing sent"] * 3
        assert sent.call_args_list[0] == mock.call("GET", "k")
    with mock.patch.object(redis, "set", autospec=True) as put:
        redis.set("k", "v", ex=3)
        put.assert_called_once_with("k", "v", ex=3)
    stand_in = mock.create_autospec(Redis, instance=True)
    stand_in.get.return_value = "nothing asked"
    assert stand_in.get("k") == "nothing asked"
    assert redis.get("k") is None


def test_a_subclass_sees_every_command(redis_url: str) -> None:
    class Heard(Redis):
        heard: ClassVar[list[str]] = []

        def execute_command(self, *args: Any, **options: Any) -> Any:
            self.heard.append(str(args[0]))
            return super().execute_command(*args, **options)

        def get(self, name: Any) -> Any:
            return "mine", super().get(name)

    redis = Heard(url=Secret(redis_url))
    redis.set("k", "v")
    assert redis.get("k") == redis["k"] == ("mine", b"v")
    assert redis.blpop(["never"], 0.01) is None
    assert redis.heard == ["SET", "GET", "GET", "BLPOP"]
    redis.stop()


def test_methods_tell_what_they_take_compiled_or_not() -> None:
    assert list(inspect.signature(Redis.get).parameters) == ["self", "name"]
    assert list(inspect.signature(Redis.set).parameters)[:3] == ["self", "name", "value"]
    assert (Redis.get.__doc__ or "").startswith("Return the value of a key")


def test_a_process_whose_library_nobody_patched_is_told_what_to_do(redis_url: str) -> None:
    script = f"""
from nucleon.redis import Redis
from nucleon.secret import Secret
redis = Redis(url=Secret({redis_url!r}))
for ask in (redis.get, redis.blpop, redis.pipeline().get("k").execute):
    try:
        ask(*(["k"] if ask in (redis.get, redis.blpop) else []))
    except Exception as error:
        print(type(error).__name__, "nucleon.green.patch()" in str(error))
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert told.stdout.splitlines() == ["SetupError True"] * 3


def test_a_pipeline_answers_in_order(redis: Redis) -> None:
    with redis.pipeline() as pipeline:
        assert pipeline.set("a", 1).incr("a").get("a").execute() == [True, 2, b"2"]


def test_a_script_and_a_lock_work(redis: Redis) -> None:
    double = redis.register_script("return redis.call('GET', KEYS[1]) * 2")
    redis.set("n", 21)
    assert double(keys=["n"]) == 42
    with redis.lock("door", timeout=5):
        assert redis.exists("door")
    assert not redis.exists("door")


def test_strings_come_decoded_when_asked(redis_url: str) -> None:
    redis = Redis(url=Secret(redis_url), decode_responses=True)
    redis.set("s", "ä")
    assert redis.get("s") == "ä"
    redis.stop()


def test_a_wrong_command_stays_a_fault_of_the_program(redis: Redis) -> None:
    redis.set("text", "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        redis.lpush("text", 1)
    assert redis.get("text") == b"x"


def test_the_commands_of_all_greenlets_share_a_connection(redis_url: str) -> None:
    """The server counts by name: it may not have noticed yet that clients of earlier tests are gone."""
    redis = Redis(url=Secret(f"{redis_url}{'&' if '?' in redis_url else '?'}client_name=turns"))
    done = [green.spawn(redis.incr, "turns") for _ in range(60)]
    assert sorted(one.get() for one in done) == list(range(1, 61))
    assert "1 shared connections with 0 commands in flight" in repr(redis)
    assert [client["name"] for client in redis.client_list()].count("turns") == 1
    redis.stop()


def test_commands_that_wait_take_turns_on_connections_of_their_own(redis: Redis) -> None:
    redis.rpush("turns", *range(60))
    done = [green.spawn(redis.blpop, "turns") for _ in range(60)]
    assert sorted(int(one.get()[1]) for one in done) == list(range(60))
    assert "0 of 3 own connections in use, 3 open" in repr(redis)


def test_nobody_overtakes_those_who_wait(redis_url: str) -> None:
    """One connection, one greenlet that always wants it again, ten that want it once."""
    redis = Redis(url=Secret(redis_url), max_connections=1)
    redis.rpush("n", *range(60))
    order: list[str] = []

    def greedy() -> None:
        for _ in range(50):
            redis.blpop("n")
            order.append("greedy")

    def modest(number: int) -> None:
        redis.blpop("n")
        order.append(str(number))

    done = [green.spawn(greedy), *(green.spawn(modest, number) for number in range(10))]
    for one in done:
        one.get()
    assert [name for name in order if name != "greedy"] == [str(number) for number in range(10)]
    assert order.index("9") <= 11
    redis.stop()


def test_a_greenlet_killed_in_the_line_loses_no_connection(redis: Redis) -> None:
    holders = [green.spawn(redis.blpop, ["never"], 1) for _ in range(3)]
    green.sleep(0.05)
    victims = [green.spawn(redis.blpop, ["x"], 1) for _ in range(5)]
    green.sleep(0.05)
    for victim in victims:
        victim.kill()
    for holder in holders:
        holder.get()
    assert "0 of 3 own connections in use, 3 open, 0 waiting" in repr(redis)


def test_a_full_pool_is_unavailable_after_the_wait(redis: Redis) -> None:
    waited: list[bool] = []

    def listener(*, resource: str, seconds: float, served: bool) -> None:
        waited.append(served)

    holders = [green.spawn(redis.blpop, ["never"], 1) for _ in range(3)]
    green.sleep(0.05)
    hooks.pool_waited.add(listener)
    started = monotonic()
    with pytest.raises(Unavailable) as caught:
        redis.blpop(["x"], 1)
    hooks.pool_waited.remove(listener)
    assert 0.15 < monotonic() - started < 0.5
    assert caught.value.headers["Retry-After"] == "1"
    assert waited == [False]
    assert "3 of 3 own connections in use" in repr(redis)
    redis.set("x", "does not wait for them")
    for holder in holders:
        holder.get()


def test_a_full_pool_gives_up_at_the_deadline(redis: Redis) -> None:
    holders = [green.spawn(redis.blpop, ["never"], 1) for _ in range(3)]
    green.sleep(0.05)
    with pytest.raises(DeadlineExceeded), green.deadline(0.1):
        redis.blpop(["x"], 1)
    for holder in holders:
        holder.get()


def test_a_late_reply_is_a_deadline_and_never_somebody_elses(redis: Redis) -> None:
    with pytest.raises(DeadlineExceeded), green.deadline(0.1):
        redis.blpop(["slow"], timeout=5)
    redis.set("own", "mine")
    assert [redis.get("own") for _ in range(4)] == [b"mine"] * 4


def test_a_killed_greenlet_never_leaves_its_reply_to_the_next(redis: Redis) -> None:
    for _ in range(5):
        victim = green.spawn(redis.blpop, ["slow"], 5)
        green.sleep(0.01)
        victim.kill()
        redis.set("own", "mine")
        assert redis.get("own") == b"mine"


def test_blocking_commands_may_outlast_the_socket_time_out(redis_url: str) -> None:
    redis = Redis(url=Secret(redis_url), socket_seconds=0.1)
    assert redis.blpop(["never"], timeout=0.3) is None
    redis.stop()


def test_a_silent_server_is_unavailable_at_the_socket_time_out() -> None:
    with silent_server() as listener:
        redis = Redis(url=Secret(f"redis://127.0.0.1:{listener.getsockname()[1]}"), socket_seconds=0.1)
        started = monotonic()
        with pytest.raises(Unavailable):
            redis.get("x")
        assert monotonic() - started < 0.5
        with pytest.raises(DeadlineExceeded), green.deadline(0.05):
            redis.get("x")
        redis.stop()


def test_nobody_listening_is_unavailable_and_shown_by_health() -> None:
    with silent_server() as listener:
        port = listener.getsockname()[1]
    redis = Redis(url=Secret(f"redis://127.0.0.1:{port}"))
    with pytest.raises(Unavailable):
        redis.health()
    with pytest.raises(Unavailable):
        redis.pipeline().get("x").execute()
    assert "2 calls, 2 failed" in repr(redis)
    with pytest.raises(NoConnection) as caught:  # who wrote `except redis.ConnectionError` catches it too
        redis.get("x")
    assert isinstance(caught.value, Unavailable)


def test_clients_killed_by_the_server_reconnect_unseen(redis: Redis) -> None:
    redis.set("k", "v")
    redis.client_kill_filter(_type="normal", skipme=True)
    assert redis.get("k") == b"v"
    redis.connection_pool.disconnect()
    assert redis.get("k") == b"v"


def test_a_server_that_comes_back_is_used_again(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    redis.set("k", "v")
    redis_server.stop()
    with pytest.raises(Unavailable):
        redis.get("k")
    redis_server.start()
    redis.set("k", "w")
    assert redis.get("k") == b"w"
    redis.stop()


def test_a_subscription_hears_what_is_published_and_ends_with_its_server(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url), socket_seconds=0.1)
    with redis.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe("news")
        listener = green.spawn(lambda: next(subscription.listen())["data"])
        green.sleep(0.3)  # a quiet channel outlasts the socket time-out
        redis.publish("news", "one")
        assert listener.get() == b"one"
        redis_server.stop()
        with pytest.raises(Unavailable):
            next(subscription.listen())
    redis.stop()


def test_nothing_is_sent_twice(redis_url: str) -> None:
    """A connection that dies with the command on its way: the command may have run, so the caller hears of it."""
    accepted: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        accepted.append(connection)
        connection.recv(1000)
        connection.close()

    with silent_server() as listener:
        server = green.spawn(serve, listener)
        redis = Redis(url=Secret(f"redis://127.0.0.1:{listener.getsockname()[1]}"))
        with pytest.raises(Unavailable):
            redis.incr("n")
        server.get()
        assert len(accepted) == 1
        redis.stop()


def test_a_forked_child_gets_connections_of_its_own(redis: Redis) -> None:
    redis.set("k", "parent")
    child = os.fork()
    if child == 0:
        try:
            good = all(redis.get("k") == b"parent" for _ in range(20))
        finally:
            os._exit(0 if good else 1)
    assert all(redis.get("k") == b"parent" for _ in range(20))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_statements_are_told_to_listeners(redis: Redis) -> None:
    heard: list[tuple[str, bool]] = []

    def listener(*, resource: str, statement: str, seconds: float, error: BaseException | None) -> None:
        heard.append((statement, error is None))

    hooks.query_ended.add(listener)
    redis.set("a", 1)
    with pytest.raises(ResponseError):
        redis.lpush("a", 1)
    hooks.query_ended.remove(listener)
    assert heard == [("SET", True), ("LPUSH", False)]


def test_a_password_is_never_shown() -> None:
    redis = Redis(url=Secret("redis://:hush@localhost:1/2"))
    assert "hush" not in repr(redis) + repr(redis.settings)
    assert "at localhost:1 database 2" in repr(redis)


def test_settings_are_checked() -> None:
    with pytest.raises(SetupError, match="no setting colour"):
        Redis(colour="red")
    with pytest.raises(SetupError, match="cannot be read"):
        Redis(url=Secret("mysql://x"))
    with pytest.raises(SetupError, match="max_connections"):
        Settings(max_connections=0)


def test_a_missing_server_names_the_setting() -> None:
    redis = Redis()
    with pytest.raises(SetupError, match="REDIS_URL"):
        redis.get("x")
    assert "no server set" in repr(redis)


def test_a_start_begins_with_an_empty_pool(redis: Redis) -> None:
    redis.get("x")
    redis.stop()
    redis.start()
    assert "0 shared connections" in repr(redis)
