"""Counters: whole numbers that all workers share, in windows of time."""


import pytest

from nucleon.errors import SetupError
from nucleon.redis import Redis
from nucleon.testing import HeldClock


def test_a_counter_counts_each_key_by_itself(redis: Redis) -> None:
    visits = redis.counter("visits:{page}")
    assert [visits.add(page="a"), visits.add(5, page="a"), visits.add(-1, page="b")] == [1, 6, -1]
    assert (visits.total(page="a"), visits.total(page="c")) == (6, 0)
    visits.reset(page="a")
    assert visits.total(page="a") == 0
    assert "3 adds" in repr(visits)
    with pytest.raises(ValueError, match="no windows"):
        visits.total(1, page="a")


def test_windows_are_counted_apart_and_forget_themselves(redis: Redis) -> None:
    clock = HeldClock(3600 * 1000)
    visits = redis.counter("visits:{page}", window_seconds=3600, clock=clock)
    visits.add(3, page="a")
    clock.advance(3600)
    visits.add(4, page="a")
    assert (visits.total(page="a"), visits.total(1, page="a"), visits.total(2, page="a")) == (4, 3, 0)
    (first, second) = sorted(redis.keys("counter:*"))
    assert 7190 < redis.ttl(first) <= 7200 and 7190 < redis.ttl(second) <= 7200


def test_the_life_of_a_window_is_not_prolonged_by_counting(redis: Redis) -> None:
    visits = redis.counter("v", window_seconds=1000)
    visits.add()
    (key,) = redis.keys("counter:*")
    redis.expire(key, 100)
    visits.add()
    assert redis.ttl(key) <= 100


def test_counters_that_make_no_sense_are_refused(redis: Redis) -> None:
    with pytest.raises(SetupError):
        redis.counter("v", window_seconds=0)
