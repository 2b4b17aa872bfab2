from time import monotonic

import pytest

from nucleon import green
from nucleon.errors import DeadlineExceeded


def test_without_a_deadline_nothing_is_bounded() -> None:
    assert green.remaining() is None
    assert green.seconds_left() is None
    assert green.seconds_left(3) == 3
    green.check()


def test_an_inner_deadline_never_outlives_the_outer_one() -> None:
    with green.deadline(0.5):
        with green.deadline(60):
            left = green.remaining()
            assert left is not None
            assert left <= 0.5
        with green.deadline(0.1):
            assert (green.remaining() or 9) <= 0.1
    assert green.remaining() is None


def test_a_passed_deadline_raises_at_the_next_look() -> None:
    with green.deadline(-1):
        with pytest.raises(DeadlineExceeded):
            green.check()
        with pytest.raises(DeadlineExceeded):
            green.seconds_left(5)


def test_sleep_ends_at_the_deadline() -> None:
    started = monotonic()
    with green.deadline(0.05), pytest.raises(DeadlineExceeded):
        green.sleep(30)
    assert monotonic() - started < 10


def test_a_spawned_greenlet_inherits_the_deadline() -> None:
    with green.deadline(5):
        left = green.spawn(green.remaining).get()
    assert 0 < left <= 5


def test_a_deadline_set_in_a_child_does_not_reach_its_parent() -> None:
    def child() -> None:
        with green.deadline(1):
            green.sleep(0)

    green.spawn(child).get()
    assert green.remaining() is None
