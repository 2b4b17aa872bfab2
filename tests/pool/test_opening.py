"""Opening while it fails: bridge short outages, refuse at once in long ones, go on by itself."""

import gevent
import gevent.event
import pytest

from nucleon import hooks
from nucleon.errors import DeadlineExceeded, Problem, Unavailable
from nucleon.green import deadline
from nucleon.pool import Limits, PermanentFailure, Pool, PoolExhausted
from nucleon.testing.waiting import eventually


class Server:
    """Opens things while it is up."""

    def __init__(self, failure=None):
        self.failure = failure
        self.tries = 0

    def create(self):
        self.tries += 1
        if self.failure is not None:
            raise self.failure
        return object()


def pool_on(server, **limits):
    return Pool(name="things", create=server.create, close=lambda thing: None, limits=Limits(**limits))


def refused(pool, kind=Unavailable):
    with pytest.raises(kind) as caught:
        pool.take()
    return caught.value


def test_a_short_outage_is_waited_out():
    server = Server(OSError("refused"))
    pool = pool_on(server, bridge_seconds=5)
    waiter = gevent.spawn(pool.take)
    eventually(lambda: server.tries >= 2)
    server.failure = None
    assert waiter.get(timeout=5).thing is not None


def test_a_long_outage_is_told_at_once_and_ends_by_itself():
    server = Server(OSError("refused"))
    pool = pool_on(server, bridge_seconds=0.05, wait_seconds=0.1)
    refused(pool)
    with gevent.Timeout(0.05):  # far below wait_seconds: nobody stands in line for what cannot come
        again = [refused(pool) for _ in range(100)]
    assert again[0] is not again[1] and isinstance(again[0].__cause__, OSError) and again[0].headers["Retry-After"] == "1"
    tries = server.tries
    assert tries < 10, "asking often does not mean trying often"
    server.failure = None
    eventually(lambda: pool.numbers()["idle"])
    assert pool.take().thing is not None


def test_tries_end_when_nobody_asks_any_more(monkeypatch):
    monkeypatch.setattr("nucleon.pool.opening.ASKED_SECONDS", 0.0)
    server = Server(OSError("refused"))
    refused(pool := pool_on(server, bridge_seconds=0.0, wait_seconds=0.05))
    eventually(lambda: pool.numbers()["opening"] == 0)


def test_a_permanent_failure_is_told_at_once_and_still_tried_again():
    server = Server(PermanentFailure(Problem("wrong password")))
    pool = pool_on(server, wait_seconds=30)
    with gevent.Timeout(2):
        assert refused(pool, Problem).detail == refused(pool, Problem).detail == "wrong password"
    server.failure = None
    eventually(lambda: pool.numbers()["idle"])


def test_who_can_still_get_what_is_lent_out_is_not_refused():
    server = Server()
    pool = pool_on(server, bridge_seconds=0.0)
    held = pool.take()
    server.failure = PermanentFailure(Problem("wrong password"))
    waiter = gevent.spawn(pool.take)
    eventually(lambda: server.tries >= 2)
    pool.give_back(held)
    assert waiter.get(timeout=2) is held


def test_an_exhausted_pool_that_cannot_grow_tells_why_to_the_log_only():
    server = Server()
    pool = pool_on(server, wait_seconds=0.1)
    pool.take()
    server.failure = OSError("too many clients of db.internal")
    problem = refused(pool, PoolExhausted)
    assert "db.internal" not in str(problem) and "db.internal" in str(problem.__cause__)


def test_a_connect_that_never_ends_is_an_unavailable_server_not_an_exhausted_pool():
    pool = Pool(name="things", create=lambda: gevent.sleep(60), close=lambda thing: None, limits=Limits(wait_seconds=0.05))
    assert not isinstance(refused(pool), PoolExhausted)
    with deadline(0.05):
        assert not isinstance(refused(pool), (PoolExhausted, DeadlineExceeded))
    pool.stop()


def test_failed_connects_are_told_to_who_listens():
    told = []

    def listen(*, resource, error):
        told.append((resource, str(error)))

    hooks.connection_failed.add(listen)
    try:
        refused(pool := pool_on(Server(OSError("refused")), wait_seconds=0.05))
    finally:
        hooks.connection_failed.remove(listen)
    assert told[0] == ("things", "refused")
    pool.stop()


def test_a_stopped_pool_tries_no_more():
    server = Server(OSError("refused"))
    refused(pool := pool_on(server, wait_seconds=0.05))
    pool.stop()
    gevent.sleep(0)
    tries = server.tries
    assert pool.numbers()["opening"] == 0
    gevent.sleep(0.3)
    assert server.tries == tries


def test_a_connect_that_ends_after_the_stop_is_not_let_in_by_the_next_start():
    closed, opened = [], gevent.event.Event()

    def create():
        try:
            opened.wait()
        except gevent.GreenletExit:  # as a driver that comes to its end all the same
            pass
        return object()

    pool = Pool(name="things", create=create, close=closed.append, limits=Limits(minimum=1, maximum=1))
    pool.start()
    gevent.sleep(0)
    pool.stop()
    pool.start()
    opened.set()
    eventually(lambda: pool.numbers()["idle"] == 1)
    assert len(closed) == 1 and pool.size == 1
    pool.stop()
