"""Commands from several native threads: each has an event loop of its own, and connections belong to one."""

import gevent
import pytest
from gevent.threadpool import ThreadPool

from nucleon import green
from nucleon.errors import Unavailable
from nucleon.redis import Redis
from nucleon.secret import Secret
from nucleon.testing.waiting import eventually


def test_what_another_thread_has_used_is_not_handed_to_this_one(redis_url: str) -> None:
    redis = Redis(url=Secret(redis_url), socket_seconds=2)
    redis.rpush("l", *range(9))
    for number in range(3):
        assert green.in_thread(redis.lindex, "l", 0) == b"%d" % (3 * number)
        assert green.in_thread(redis.blpop, ["l"], 1) == (b"l", b"%d" % (3 * number))
        assert redis.blpop(["l"], 1) == (b"l", b"%d" % (3 * number + 1))
        assert green.in_thread(redis.pipeline().lpop("l").execute) == [b"%d" % (3 * number + 2)]
    waiting = green.spawn(redis.blpop, ["l"], 1)
    eventually(lambda: "; 1 of 20 own" in repr(redis))
    assert green.in_thread(redis.rpush, "l", "x") == 1
    assert waiting.get() == (b"l", b"x")
    assert "0 of 20 own connections in use, 1 open" in repr(redis)
    assert not redis._pool._abroad
    redis.stop()


def test_the_first_command_may_come_from_another_thread(redis_url: str) -> None:
    redis = Redis(url=Secret(redis_url))
    assert green.in_thread(redis.set, "k", "v") is True
    assert redis._multiplexer.opened == 0
    assert redis.get("k") == b"v"
    assert redis._multiplexer.opened == 1  # the shared connections stay with the thread that made the client
    redis.stop()


def test_threads_come_and_go_and_their_numbers_are_used_again(redis_url: str) -> None:
    made: list[Redis] = []

    def work() -> bool:
        is_first = not made
        if is_first:
            made.append(Redis(url=Secret(redis_url), socket_seconds=1))
        done = made[0].ping() and made[0].set("k", "v") is True and made[0].blpop(["never"], 0.01) is None
        if is_first:
            made[0].stop()  # in the thread that it belongs to
        return done

    for _ in range(4):
        pool = ThreadPool(1)
        assert pool.spawn(work).get(timeout=5) is True
        pool.kill()
        assert made[0].get("k") == b"v"
    made[0].start()  # it belongs to this thread from now on
    assert made[0].get("k") == b"v"
    assert made[0]._multiplexer.opened == 1
    made[0].stop()


def test_connections_for_other_threads_are_bounded(redis_url: str) -> None:
    redis = Redis(url=Secret(redis_url), max_connections=2)

    def many() -> list[object]:
        asked = [gevent.spawn(redis.blpop, ["never"], 0.2) for _ in range(4)]
        gevent.joinall(asked)
        return [one.exception for one in asked]

    failed = [error for error in green.in_thread(many) if error is not None]
    assert [type(error).__mro__[1] for error in failed] == [Unavailable] * 2
    with pytest.raises(Unavailable, match="in use by other threads"):
        raise failed[0]  # type: ignore[misc]
    assert redis.blpop(["never"], 0.01) is None
    redis.stop()
