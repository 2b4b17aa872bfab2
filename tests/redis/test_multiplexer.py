"""Shared connections: order, deadlines, kills, room, and who is asked when one is gone."""

import os
import random
import socket
from collections.abc import Iterator
from time import monotonic
from typing import Any

import gevent
import greenlet
import pytest
from gevent.exceptions import BlockingSwitchOutError
from gevent.monkey import get_original
from redis.exceptions import DataError, ResponseError

from nucleon import green, hooks
from nucleon.errors import DeadlineExceeded, Unavailable
from nucleon.redis import Redis
from nucleon.redis.link import GLANCE_SECONDS
from nucleon.secret import Secret
from nucleon.testing import TcpProxy
from nucleon.testing.waiting import eventually

COMMANDS = int(os.environ.get("NUCLEON_REDIS_COMMANDS", "50000"))
"""How many commands the test with random kills sends; run it with 1000000 after a change of link.py."""


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    client = Redis(url=Secret(redis_url), max_connections=3, wait_seconds=0.2)
    yield client
    client.stop()


class Checked:
    """Greenlets that ask for values only they know, and note every reply that is not theirs."""

    def __init__(self, redis: Redis, commands: int) -> None:
        self.redis = redis
        self.left = commands
        self.wrong: list[tuple[Any, Any]] = []
        self.answered = 0

    def run(self, number: int) -> None:
        random_ = random.Random(number)
        while self.left > 0:
            self.left -= 1
            token = f"{number}:{self.left}".encode()
            kind = random_.random()
            try:
                if kind < 0.7:
                    self.check(self.redis.echo(token), token)  # type: ignore[no-untyped-call]
                elif kind < 0.8:
                    with green.deadline(random_.random() * 0.002):
                        self.check(self.redis.echo(token), token)  # type: ignore[no-untyped-call]
                elif kind < 0.9:
                    pipeline = self.redis.pipeline(transaction=kind < 0.85)
                    pipeline.echo(token).set(f"own:{number}", token).get(f"own:{number}")  # type: ignore[no-untyped-call]
                    self.check(pipeline.execute(), [token, True, token])
                else:
                    self.redis.set(f"own:{number}", token)
                    self.check(self.redis.get(f"own:{number}"), token)
            except DeadlineExceeded:
                continue

    def check(self, got: Any, wanted: Any) -> None:
        self.answered += 1
        if got != wanted:
            self.wrong.append((got, wanted))


def test_no_greenlet_ever_gets_the_reply_of_another_one_when_greenlets_are_killed_at_random(redis: Redis) -> None:
    checked = Checked(redis, COMMANDS)
    random_ = random.Random(7)
    names = iter(range(10**9))
    busy = [gevent.spawn(checked.run, next(names)) for _ in range(32)]
    while checked.left > 0:
        gevent.sleep(0.001)
        for _ in range(4):
            victim = random_.randrange(len(busy))
            busy[victim].kill(block=False)
            busy[victim] = gevent.spawn(checked.run, next(names))
    gevent.joinall(busy, raise_error=True)
    assert checked.wrong == []
    assert checked.answered > COMMANDS * 0.4
    eventually(lambda: redis._multiplexer.in_flight == 0)
    assert len(redis._multiplexer.links) == 1
    assert redis._multiplexer.opened == 1


@pytest.mark.parametrize(("size", "writes"), [(10, [1, 39]), (1000, [1, 17, 17, 5])])
def test_commands_of_one_turn_leave_together_and_for_large_replies_in_a_few_writes(redis: Redis, size: int, writes: list[int]) -> None:
    texts = [f"{n:0{size}}" for n in range(40)]
    redis.echo(texts[0])  # type: ignore[no-untyped-call]
    link = redis._multiplexer.links[0]
    written: list[int] = []
    send = link.send
    link.send = lambda data: written.append(data.count(b"ECHO")) or send(data)  # type: ignore[func-returns-value]
    done = [green.spawn(redis.echo, text) for text in texts]
    assert [one.get() for one in done] == [text.encode() for text in texts]
    assert written == writes  # the first finds the connection idle and leaves at once; the server works while others are collected


def test_greenlets_whose_replies_came_together_go_on_one_after_the_other_and_ask_again_in_one_write(redis: Redis) -> None:
    """A busy service: what runs goes on to the next one that can, and the hub sends what all of them ask."""
    redis.ping()
    link = redis._multiplexer.links[0]
    seen: list[tuple[Any, Any]] = []
    written: list[bytes] = []
    send = link.send
    asked: list[bytes] = []

    def ask_twice(n: int) -> None:
        asked.append(redis.echo(f"first {n}"))  # type: ignore[no-untyped-call]
        asked.append(redis.echo(f"second {n}"))  # type: ignore[no-untyped-call]

    ones = [green.spawn(ask_twice, n) for n in range(10)]
    link.send = lambda data: written.append(data) or send(data)  # type: ignore[func-returns-value]
    before = greenlet.settrace(lambda _event, pair: seen.append(pair))
    try:
        gevent.joinall(ones, raise_error=True)
    finally:
        greenlet.settrace(before)
    assert sorted(asked) == sorted(f"{word} {n}".encode() for word in ("first", "second") for n in range(10))
    assert len(written) <= 6
    directly = [pair for pair in seen if pair[0] in ones and pair[1] in ones]
    assert len(directly) >= 8  # the first command left alone, the other nine together; who has ended goes back to the hub


def test_a_forked_child_wakes_nobody_whose_reply_came_before(redis: Redis) -> None:
    redis.ping()
    link = redis._multiplexer.links[0]
    read_end, write_end = os.pipe()
    went_on: list[int] = []

    def ask(n: int) -> None:
        redis.echo(f"{n}")  # type: ignore[no-untyped-call]
        went_on.append(n)
        if len(went_on) == 1 and not os.fork():
            os.write(write_end, b"%d" % len(link.ready))
            os._exit(0)

    gevent.joinall([green.spawn(ask, n) for n in range(6)], raise_error=True)
    assert os.wait()[1] == 0
    assert os.read(read_end, 9) == b"0"
    assert len(went_on) == 6
    os.close(read_end)
    os.close(write_end)


def test_a_deadline_passes_without_closing_the_connection(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    redis.set("k", "v")
    redis_server.pause()
    with pytest.raises(DeadlineExceeded), green.deadline(0.1):
        redis.append("k", "x")
    redis_server.resume()
    assert redis.get("k") == b"vx"  # it was sent and ran; its late reply was dropped
    assert redis._multiplexer.opened == 1
    redis.stop()


def test_a_full_connection_lets_wait_and_then_answers_503(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url), commands_in_flight=5, wait_seconds=0.3, shared_connections=1)
    waited: list[bool] = []

    def listener(*, resource: str, seconds: float, served: bool) -> None:
        waited.append(served)

    redis.ping()
    redis_server.pause()
    holders = [green.spawn(redis.incr, "n") for _ in range(5)]
    gevent.sleep(0.05)
    patient = [green.spawn(redis.incr, "n") for _ in range(8)]
    gevent.sleep(0)
    hooks.pool_waited.add(listener)
    started = monotonic()
    with pytest.raises(Unavailable, match="5 commands are on their way") as caught:
        redis.get("n")
    assert 0.25 < monotonic() - started < 0.6
    assert caught.value.headers["Retry-After"] == "1"
    assert waited[-1] is False
    hooks.pool_waited.remove(listener)
    gevent.joinall(patient)
    patient = [green.spawn(redis.incr, "n") for _ in range(8)]
    gevent.sleep(0.05)
    assert "5 commands in flight, 8 waiting" in repr(redis)
    patient[3].kill()
    redis_server.resume()
    assert sorted(one.get() for one in holders + patient[:3] + patient[4:]) == list(range(1, 13))
    assert redis.get("n") == b"12"
    redis.stop()


def test_bytes_in_flight_are_bounded_too_but_one_command_may_always_go(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url), in_flight_bytes=10_000, wait_seconds=0.1)
    assert redis.set("large", "x" * 20_000)
    redis_server.pause()
    first = green.spawn(redis.set, "a", "x" * 8_000)
    gevent.sleep(0.02)
    with pytest.raises(Unavailable, match="1 commands are on their way"):
        redis.set("b", "x" * 8_000)
    redis_server.resume()
    assert first.get() is True
    redis.stop()


def test_who_waits_for_room_does_not_come_in_with_more_bytes_than_there_is_room_for(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url), in_flight_bytes=100_000, wait_seconds=5)
    redis.ping()
    link = redis._multiplexer.links[0]
    carried: list[int] = []
    send = link.send
    link.send = lambda data: carried.append(link.bytes) or send(data)  # type: ignore[func-returns-value]
    redis_server.pause()
    writers = [green.spawn(redis.set, f"k{number}", "x" * 30_000) for number in range(30)]
    eventually(lambda: redis._multiplexer.waiting == 27)
    writers[10].kill()
    redis_server.resume()
    gevent.joinall(writers, raise_error=True)
    assert max(carried) <= 100_000
    assert (link.reserved, link.reserved_bytes, redis._multiplexer.waiting) == (0, 0, 0)
    redis.stop()


def test_the_deadline_holds_for_a_command_that_waited_for_room_before(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url), commands_in_flight=1, wait_seconds=5)
    redis.ping()
    redis_server.pause()
    first = green.spawn(redis.incr, "n")
    eventually(lambda: redis._multiplexer.in_flight == 1)

    def late() -> float:
        started = monotonic()
        with pytest.raises(DeadlineExceeded), green.deadline(0.8):
            redis.incr("n")
        return monotonic() - started

    second = green.spawn(late)
    gevent.sleep(0.6)
    link = redis._multiplexer.links[0]
    send = link.send
    link.send = lambda data: (redis_server.pause(), send(data))[1]  # the second is never answered
    redis_server.resume()
    took = second.get()
    redis_server.resume()
    first.get()
    assert took < 1.1
    redis.stop()


def test_a_greenlet_killed_with_the_room_in_hand_gives_it_to_the_next(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url), commands_in_flight=1, wait_seconds=2)
    redis.ping()
    redis_server.pause()

    def hold() -> None:
        redis.incr("n")
        victim.kill(block=False)  # its place is called in by the same turn of the loop, before it can run

    holder = green.spawn(hold)
    gevent.sleep(0.02)
    victim, second = green.spawn(redis.incr, "n"), green.spawn(redis.incr, "n")
    gevent.sleep(0.02)
    redis_server.resume()
    holder.get()
    assert second.get() == 2
    assert redis._multiplexer.waiting == 0
    redis.stop()


def test_a_large_reply_does_not_keep_others_waiting(redis_server: Any) -> None:
    plain = Redis(url=Secret(redis_server.url))
    plain.set("large", "x" * 2_000_000)
    with TcpProxy(redis_server.address) as proxy:
        redis = Redis(url=Secret(f"redis://127.0.0.1:{proxy.port}"))
        redis.ping()
        proxy.delay(0.02, "to_client")  # 64 KB each 20 ms: the large reply takes more than half a second
        large = green.spawn(redis.get, "large")
        eventually(lambda: redis._multiplexer.links[0].is_stuck())
        assert redis.echo("small") == b"small"  # type: ignore[no-untyped-call]
        assert not large.ready()
        assert len(redis._multiplexer.links) == 2
        assert len(large.get()) == 2_000_000
        redis.stop()
    plain.stop()


def test_a_large_command_takes_a_connection_of_its_own(redis: Redis) -> None:
    redis.set("large", b"x" * 100_000)
    assert redis._multiplexer.opened == 0
    with redis.pipeline() as pipeline:
        pipeline.set("a", b"y" * 40_000).set("b", b"z" * 40_000).execute()
    assert redis._multiplexer.opened == 0
    assert redis.strlen("b") == 40_000


def test_a_wrong_value_is_refused_before_anything_is_sent(redis: Redis) -> None:
    for value in (None, [1], {"a": 1}, object()):
        with pytest.raises(DataError):
            redis.set("k", value)  # type: ignore[arg-type]
    assert redis.get("k") is None


def test_commands_that_change_their_connection_run_on_one_that_is_closed_after(redis: Redis) -> None:
    redis.set("k", "0")
    assert redis.select(1) is True  # type: ignore[no-untyped-call]
    assert redis.execute_command("CLIENT", "REPLY", "ON") == b"OK"
    assert redis.execute_command("MULTI") in (b"OK", True)
    assert redis.get("k") == b"0"
    assert redis.blpop(["never"], 0.05) is None
    assert all(client["db"] == "0" for client in redis.client_list(_type="normal"))


def test_an_error_reply_belongs_to_its_command(redis: Redis) -> None:
    redis.set("text", "x")
    bad = [green.spawn(redis.lpush, "text", 1) for _ in range(5)]
    good = [green.spawn(redis.get, "text") for _ in range(5)]
    gevent.joinall(bad)
    assert all(isinstance(one.exception, ResponseError) for one in bad)
    assert len({id(one.exception) for one in bad}) == 5
    assert [one.get() for one in good] == [b"x"] * 5


def test_a_thread_with_an_event_loop_of_its_own_is_served(redis: Redis) -> None:
    redis.set("k", "v")
    assert green.in_thread(lambda: [redis.get("k"), redis.pipeline().get("k").execute()]) == [b"v", [b"v"]]


def test_a_greenlet_that_dies_into_the_hub_takes_no_reply_along(redis: Redis) -> None:
    """A bare greenlet: what it raises reaches the hub in the middle of handing out replies."""
    redis.ping()
    seen: list[BaseException] = []

    def careless() -> None:
        redis.echo("careless")  # type: ignore[no-untyped-call]
        raise ZeroDivisionError

    hub = gevent.get_hub()
    report, hub.handle_error = hub.handle_error, lambda *what: seen.append(what[2])  # type: ignore[method-assign]
    try:
        bare = gevent.spawn_raw(careless)
        others = [green.spawn(redis.echo, f"{n}") for n in range(10)]
        assert [one.get() for one in others] == [f"{n}".encode() for n in range(10)]
    finally:
        hub.handle_error = report  # type: ignore[method-assign]
    assert bare.dead
    assert [type(error) for error in seen] == [ZeroDivisionError]


def test_a_command_in_a_callback_of_the_loop_is_an_error_and_no_standstill(redis: Redis) -> None:
    redis.set("k", "v")
    caught: list[BaseException] = []

    def callback() -> None:
        try:
            redis.get("k")
        except BlockingSwitchOutError as error:
            caught.append(error)

    gevent.get_hub().loop.run_callback(callback)
    gevent.sleep(0.01)
    assert len(caught) == 1
    assert redis.get("k") == b"v"


def crowded(server: Any, room: int, method: str) -> tuple[Redis, list[Any]]:
    """Six commands at a server that stands still: as many as there is room for are on their way, the others wait."""
    redis = Redis(url=Secret(server.url), commands_in_flight=room, wait_seconds=2)
    redis.ping()
    server.pause()
    asked = [green.spawn(getattr(redis, method), "n") for _ in range(6)]
    eventually(lambda: redis._multiplexer.waiting == 6 - room)
    return redis, asked


def test_who_waits_for_room_when_connections_are_replaced_goes_over_a_new_one(redis_server: Any) -> None:
    redis, asked = crowded(redis_server, 1, "incr")
    redis._multiplexer.replace()
    redis_server.resume()
    assert sorted(one.get() for one in asked) == list(range(1, 7))
    redis.stop()


def test_nothing_is_asked_again_after_a_stop_and_no_connection_stays(redis_server: Any) -> None:
    redis, asked = crowded(redis_server, 2, "get")
    before = redis._multiplexer
    redis.stop()
    redis_server.resume()
    gevent.joinall(asked)
    assert [isinstance(one.exception, Unavailable) for one in asked] == [True] * 6
    assert (before.links, before.opened) == ([], 1)
    assert redis.get("n") is None
    redis.stop()


def test_a_notice_of_the_server_between_replies_that_were_read_together_stops_nobody(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url), protocol=3, local_bytes=100_000)
    redis.set("a", 1)
    assert redis.get("a") == b"1"  # the server will tell when it changes
    redis_server.pause()

    def one(number: int) -> int:
        redis.exists("x")
        if number == 0:  # the others have their replies, and are not awake yet
            with get_original("socket", "socket")(socket.AF_UNIX) as other:  # one that does not let them run
                other.connect(redis_server.address)
                other.sendall(b"SET a 2\r\n")
                assert other.recv(5) == b"+OK\r\n"
            started = monotonic()
            while monotonic() - started < 2 * GLANCE_SECONDS:
                pass
        return redis.exists("x")

    asked = [green.spawn(one, number) for number in range(4)]
    eventually(lambda: redis._multiplexer.in_flight == 4)
    redis_server.resume()
    gevent.joinall(asked, timeout=2)
    assert [done.value for done in asked] == [0] * 4
    redis.stop()


def test_who_waits_for_room_is_called_in_by_a_new_connection(redis_server: Any) -> None:
    plain = Redis(url=Secret(redis_server.url))
    plain.set("large", "x" * 2_000_000)
    with TcpProxy(redis_server.address) as proxy:
        redis = Redis(url=Secret(f"redis://127.0.0.1:{proxy.port}"), commands_in_flight=1, wait_seconds=5)
        redis.ping()
        proxy.delay(0.02, "to_client")
        large = green.spawn(redis.get, "large")
        gevent.sleep(0)
        early = green.spawn(redis.echo, "early")  # before anybody knows how large the reply is
        eventually(lambda: redis._multiplexer.links[0].is_stuck())
        assert redis.echo("late") == b"late"  # type: ignore[no-untyped-call]
        assert early.get() == b"early"
        assert not large.ready()
        large.get()
        redis.stop()
    plain.stop()
