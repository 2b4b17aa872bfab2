"""The pool with things that cost nothing: fairness, bounds, lifetime, leaks, storms."""

import logging
from contextvars import Context

import gevent
import pytest

from nucleon import green
from nucleon.errors import DeadlineExceeded, Unavailable
from nucleon.pool import Limits, Pool, PoolExhausted


class Thing:
    closed = False


def pool_of(create=Thing, **limits):
    options = {name: limits.pop(name) for name in ("check", "is_alive", "reset") if name in limits}
    return Pool(name="things", create=create, close=lambda thing: setattr(thing, "closed", True), limits=Limits(**limits), **options)


def until(is_so, seconds=5):
    with gevent.Timeout(seconds):
        while not is_so():
            gevent.sleep(0.005)


def test_a_thing_is_lent_again_after_it_came_back():
    pool = pool_of()
    slot = pool.take()
    pool.give_back(slot)
    assert pool.take().thing is slot.thing and pool.created == 1
    assert repr(pool) == "<Pool things: 1 in use, 0 idle, 0 opening of 10; 0 waiting; 1 created, closed: none>"


def test_waiters_are_served_in_order_of_arrival():
    pool, order = pool_of(maximum=1), []
    held = pool.take()

    def work(number):
        slot = pool.take()
        order.append(number)
        gevent.sleep(0)
        pool.give_back(slot)

    workers = [gevent.spawn(work, number) for number in range(20)]
    until(lambda: pool.waiting == 20)
    pool.give_back(held)
    gevent.joinall(workers, raise_error=True)
    assert order == list(range(20))


def test_the_wait_is_bounded_by_patience_and_by_the_deadline():
    pool = pool_of(maximum=1, wait_seconds=0.05)
    gevent.spawn(pool.take).join()
    with pytest.raises(PoolExhausted, match="1 of 1 connections in use"):
        pool.take()
    with pytest.raises(DeadlineExceeded), green.deadline(0.01):
        pool.take()
    assert pool.waiting == 0


def test_a_line_that_is_full_refuses_at_once():
    pool = pool_of(maximum=1, waiting_maximum=0, wait_seconds=60)
    with pytest.raises(PoolExhausted, match="the line is full"):
        pool.take()


def test_a_waiter_killed_when_it_was_served_loses_nothing():
    pool = pool_of(maximum=1)
    held = pool.take()
    waiter = gevent.spawn(lambda: pool.give_back(pool.take()))
    until(lambda: pool.waiting == 1)
    pool.give_back(held)
    waiter.kill()
    assert pool.in_use == 0 and pool.take().thing is held.thing


def test_a_dead_thing_is_replaced_before_it_is_lent():
    pool = pool_of(is_alive=lambda thing, idle_seconds: not thing.closed)
    slot = pool.take()
    pool.give_back(slot)
    slot.thing.closed = True
    assert not pool.take().thing.closed and pool.closed_by_reason == {"dead": 1}


def test_a_thing_that_does_not_look_well_is_asked_before_it_is_thrown_away():
    asked = []
    pool = pool_of(is_alive=lambda thing, idle_seconds: False, check=lambda thing, seconds: asked.append(thing))
    slot = pool.take()
    pool.give_back(slot)
    assert pool.take() is slot and asked == [slot.thing, slot.thing] and pool.created == 1


def test_a_thing_that_cannot_be_reset_is_closed():
    pool = pool_of(reset=lambda slot: False)
    slot = pool.take()
    pool.give_back(slot)
    assert slot.thing.closed and pool.size == 0


def test_old_and_idle_things_are_closed_and_the_minimum_is_kept():
    pool = pool_of(lifetime_seconds=0.2, idle_seconds=0.2, minimum=1)
    slots = [pool.take() for _ in range(3)]
    for slot in slots:
        pool.give_back(slot)
    until(lambda: all(slot.thing.closed for slot in slots))
    until(lambda: pool.size == 1 and pool.created == 4)
    pool.stop()
    assert pool.size == 0


def test_a_leak_is_reported_with_the_stack_that_took_it(caplog):
    pool = pool_of(leak_seconds=0.1)
    with caplog.at_level(logging.WARNING):
        slot = pool.take()
        until(lambda: "was not given back" in caplog.text)
    assert "test_a_leak_is_reported" in caplog.text
    assert "its holder is running now" in caplog.text or "its holder is now at" in caplog.text
    pool.give_back(slot)
    pool.stop()


def test_a_leak_report_shows_where_the_holder_waits(caplog):
    pool = pool_of(leak_seconds=0.1)

    def hold_and_dawdle():
        slot = pool.take()
        gevent.sleep(60)
        pool.give_back(slot)

    holder = gevent.spawn(hold_and_dawdle)
    with caplog.at_level(logging.WARNING):
        until(lambda: "was not given back" in caplog.text)
    told = caplog.text.split("its holder is now at")[1]
    assert "gevent.sleep(60)" in told and caplog.text.count("was not given back") == 1
    holder.kill()
    pool.stop()


def test_at_most_two_connects_run_at_a_time():
    opening, most = [0], [0]

    def create():
        opening[0] += 1
        most[0] = max(most[0], opening[0])
        gevent.sleep(0.005)
        opening[0] -= 1
        return Thing()

    pool = pool_of(create)
    gevent.joinall([gevent.spawn(pool.take) for _ in range(10)], raise_error=True)
    assert most == [2] and pool.in_use == 10


def test_a_connect_that_fails_is_tried_again_while_somebody_waits():
    tries = []

    def create():
        tries.append(1)
        if len(tries) < 3:
            raise OSError("refused")
        return Thing()

    assert pool_of(create).take().thing and len(tries) == 3


def test_who_waits_for_what_cannot_be_opened_gets_unavailable():
    def create():
        raise OSError("refused")

    with pytest.raises(Unavailable, match="things cannot be reached"):
        pool_of(create, wait_seconds=0.1).take()


def test_a_stopped_pool_lends_nothing_until_it_is_started_again():
    pool = pool_of()
    slot = pool.take()
    pool.stop()
    pool.give_back(slot)
    assert slot.thing.closed
    with pytest.raises(Unavailable):
        pool.take()
    pool.start()
    assert pool.take().thing


def test_short_uses_in_a_row_stand_in_line_once():
    pool, order = pool_of(maximum=1), []
    held = pool.take()

    def work(number):
        for _ in range(3):
            pool.give_back(pool.take())
            order.append(number)

    workers = [gevent.spawn(work, number) for number in range(3)]
    until(lambda: pool.waiting == 3)
    pool.give_back(held)
    gevent.joinall(workers, raise_error=True)
    assert order == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_the_next_request_on_the_same_greenlet_stands_behind_those_who_wait():
    pool, order = pool_of(maximum=1), []
    held = pool.take()

    def request(number):
        pool.give_back(pool.take())
        order.append(number)

    def serve(number):
        for _ in range(3):
            Context().run(request, number)

    workers = [gevent.spawn(serve, number) for number in range(3)]
    until(lambda: pool.waiting == 3)
    pool.give_back(held)
    gevent.joinall(workers, raise_error=True)
    assert order == [0, 1, 2] * 3


def test_a_turn_ends_so_that_nobody_starves():
    pool, ended = pool_of(maximum=1), []

    def greedy():
        while not ended:
            slot = pool.take()
            gevent.sleep(0.005)
            pool.give_back(slot)

    greedy_one = gevent.spawn(greedy)
    until(lambda: pool.in_use == 1)
    other = gevent.spawn(lambda: (pool.give_back(pool.take()), ended.append(1)))
    gevent.joinall([other, greedy_one], timeout=5, raise_error=True)
    assert ended == [1]


def test_what_is_idle_for_the_line_and_is_evicted_is_replaced():
    pool = pool_of(maximum=1)
    held = pool.take()
    waiter = gevent.spawn(pool.take)
    until(lambda: pool.waiting == 1)
    pool.give_back(held)
    pool.evict("told")
    assert waiter.get(timeout=5).thing is not held.thing
