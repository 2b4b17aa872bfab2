"""The queue inside the pool: the newest thing first, the oldest waiter first, nothing lost."""

from queue import Empty, Full

import pytest

from nucleon import green
from nucleon.errors import DeadlineExceeded
from nucleon.redis.turns import Turns


def test_the_newest_thing_is_taken_first() -> None:
    turns = Turns(2)
    turns.put_nowait("old")
    turns.put_nowait("new")
    with pytest.raises(Full):
        turns.put_nowait("too many")
    assert [turns.get(), turns.get()] == ["new", "old"]
    with pytest.raises(Empty):
        turns.get(block=False)


def test_a_wait_ends_at_its_time_or_at_the_deadline_and_leaves_the_line() -> None:
    turns = Turns(1)
    with pytest.raises(Empty):
        turns.get(timeout=0.01)
    with pytest.raises(DeadlineExceeded), green.deadline(0.01):
        turns.get()
    turns.put_nowait("kept")
    assert turns.get() == "kept"


def test_a_thing_handed_to_one_who_is_killed_goes_to_the_next() -> None:
    turns = Turns(1)
    first, second = green.spawn(turns.get), green.spawn(turns.get)
    green.sleep()
    first.kill(block=False)
    turns.put_nowait("thing")  # in the hand of the first, who dies before it wakes
    assert second.get() == "thing"
