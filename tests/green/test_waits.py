"""Many waits under one timer: each ends with what woke it, at its time, or with its greenlet."""

import gevent
import pytest

from nucleon.green.waits import TICK_SECONDS, TIMED_OUT, Waits, waiter
from nucleon.testing import eventually


@pytest.fixture
def waits():
    made = Waits()
    yield made
    made.close()


def test_a_wait_returns_what_woke_it(waits):
    turn = waiter()
    waiting = gevent.spawn(waits.wait, turn, 5)
    eventually(lambda: len(waits))
    waits.wake(turn, "value")
    assert waiting.get(timeout=1) == "value" and len(waits) == 0


@pytest.mark.parametrize("seconds", [0, 0.01, 4 * TICK_SECONDS, 6 * TICK_SECONDS])
def test_a_wait_ends_when_its_time_is_over(waits, seconds):
    with gevent.Timeout(5):
        assert waits.wait(waiter(), seconds) is TIMED_OUT
    assert len(waits) == 0


def test_a_killed_greenlet_leaves_nothing_and_waking_it_does_nothing(waits):
    turn = waiter()
    waiting = gevent.spawn(waits.wait, turn, 5)
    eventually(lambda: len(waits))
    waiting.kill()
    assert len(waits) == 0
    waits.wake(turn, "too late")
    assert waits.wait(waiter(), 0.01) is TIMED_OUT


def test_a_wake_in_the_turn_of_a_time_out_wins_or_loses_but_only_once(waits):
    turn, other = waiter(), waiter()
    waiting = gevent.spawn(lambda: (waits.wait(turn, 5), waits.wait(other, 0.01)))
    eventually(lambda: len(waits))
    waits.wake(turn, "first")
    waits.wake(turn, TIMED_OUT)
    assert waiting.get(timeout=1) == ("first", TIMED_OUT)


def test_the_timer_rests_when_nobody_waits(waits):
    assert waits.wait(waiter(), 4 * TICK_SECONDS) is TIMED_OUT
    eventually(lambda: not waits._timer.active)
    assert waits.wait(waiter(), 4 * TICK_SECONDS) is TIMED_OUT  # and begins again
