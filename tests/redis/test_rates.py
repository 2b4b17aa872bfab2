"""GCRA: a steady flow, a burst, answers that say when to come back."""

import logging
from time import monotonic
from typing import Any

import pytest

from nucleon import green
from nucleon.errors import DeadlineExceeded, SetupError, TooManyRequests, Unavailable
from nucleon.redis import Rate, Redis
from nucleon.secret import Secret
from nucleon.testing import HeldClock, eventually


def test_the_limit_may_come_at_once_and_then_a_steady_flow(redis: Redis) -> None:
    clock = HeldClock()
    rate = redis.rate("api", 10, per_seconds=5, clock=clock)
    verdicts = [rate.take("ann") for _ in range(11)]
    assert [verdict.allowed for verdict in verdicts] == [True] * 10 + [False]
    assert [verdict.remaining for verdict in verdicts] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]
    assert (verdicts[9].reset_seconds, verdicts[10].retry_after_seconds) == (5, 0.5)
    clock.advance(0.5)
    assert [rate.take("ann").allowed for _ in range(2)] == [True, False]
    clock.advance(5)
    assert [rate.take("ann").allowed for _ in range(11)] == [True] * 10 + [False]
    assert rate.take("ben").allowed
    assert "22 allowed, 3 refused" in repr(rate)


@pytest.mark.parametrize(("limit", "per_seconds"), [(3, 1), (7, 60), (1, 3600), (1000, 1), (13, 0.7)])
def test_exactly_the_limit_is_allowed_at_once_whatever_the_fractions(redis: Redis, limit: int, per_seconds: float) -> None:
    rate = redis.rate("x", limit, per_seconds=per_seconds, clock=HeldClock(), burst=min(limit, 50))
    assert sum(rate.take().allowed for _ in range(70)) == min(limit, 50)


def test_the_clock_of_the_server_is_the_default_and_what_is_stored_leaves_by_itself(redis: Redis) -> None:
    rate = redis.rate("api", 100, per_seconds=1)
    assert all(rate.take("a").allowed for _ in range(50))
    assert 0 < redis.pttl("rate:api:a") <= 502
    green.sleep(0.6)
    assert redis.dbsize() == 0


def test_a_cost_takes_more_and_a_peek_nothing(redis: Redis) -> None:
    rate = redis.rate("api", 10, per_seconds=10, clock=HeldClock())
    assert rate.take("a", 8).remaining == 2
    assert rate.peek("a").remaining == 2
    refused = rate.take("a", 5)
    assert (refused.allowed, refused.remaining, refused.retry_after_seconds) == (False, 2, 3)
    assert rate.take("a", 2).allowed
    rate.reset("a")
    assert rate.peek("a").remaining == 10


def test_workers_share_what_is_allowed(redis_url: str) -> None:
    clients = [Redis(url=Secret(redis_url)) for _ in range(2)]
    rates = [client.rate("api", 30, per_seconds=60) for client in clients]
    asked = [green.spawn(rate.take, "a") for rate in rates for _ in range(40)]
    assert sum(one.get().allowed for one in asked) == 30
    for client in clients:
        client.stop()


def test_require_raises_429_with_the_time_to_come_back(redis: Redis) -> None:
    rate = redis.rate("api", 1, per_seconds=7.2, clock=HeldClock())
    rate.require("a")
    with pytest.raises(TooManyRequests) as caught:
        rate.require("a")
    assert caught.value.headers["Retry-After"] == "8"


def test_with_redis_away_a_rate_is_open_or_closed(
    redis_server: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rate, "PAUSE_SECONDS", 0.001)
    redis = Redis(url=Secret(redis_server.url))
    open_rate, closed = redis.rate("a", 1, per_seconds=60), redis.rate("b", 1, per_seconds=60, when_away="closed")
    redis_server.stop()
    with caplog.at_level(logging.WARNING, "nucleon.redis"):
        assert [open_rate.take("x").allowed for _ in range(3)] == [True] * 3
    assert caplog.text.count("cannot ask Redis (open)") == 1
    with pytest.raises(Unavailable):
        closed.take("x")
    redis_server.start()
    eventually(lambda: open_rate.peek("x").remaining == 1 and not open_rate._ask_again_at)
    assert [open_rate.take("x").allowed for _ in range(2)] == [True, False]
    redis.stop()


def test_a_slow_redis_costs_its_patience_once_and_the_deadline_of_the_request_stays_in_force(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    rate = redis.rate("a", 1, per_seconds=60, patience_seconds=0.1)
    hurried = redis.rate("b", 1, per_seconds=60, patience_seconds=5)
    rate.take("x")
    redis_server.pause()
    try:
        started = monotonic()
        assert [rate.take("x").allowed for _ in range(20)] == [True] * 20
        assert monotonic() - started < 0.5, "asked once, not twenty times"
        with pytest.raises(DeadlineExceeded), green.deadline(0.05):
            hurried.take("x")
    finally:
        redis_server.resume()
    eventually(lambda: not rate.take("x").allowed)
    redis.stop()


@pytest.mark.parametrize(
    "options",
    [{"limit": 0}, {"per_seconds": 0}, {"burst": 0}, {"when_away": "ajar"}, {"name": 'a"b'}, {"name": ""}, {"by": "moon"}],
)
def test_rates_that_make_no_sense_are_refused(redis: Redis, options: dict[str, Any]) -> None:
    with pytest.raises(SetupError):
        Rate(redis, **{"name": "a", "limit": 1, "per_seconds": 1, **options})


def test_a_clock_that_is_set_back_locks_nobody_out(redis: Redis) -> None:
    ahead, behind = HeldClock(), HeldClock()
    behind.now -= 3600
    before, after = (redis.rate("api", 2, per_seconds=10, clock=clock) for clock in (ahead, behind))
    assert [before.take("a").allowed for _ in range(3)] == [True, True, False]
    assert after.take("a").retry_after_seconds == 5
    behind.advance(5)
    assert [after.take("a").allowed for _ in range(2)] == [True, False]


def test_a_key_that_holds_no_time_counts_as_none(redis: Redis) -> None:
    redis.set("rate:api:a", "written by somebody else")
    assert redis.rate("api", 2, per_seconds=10).take("a").remaining == 1


@pytest.mark.parametrize("cost", [11, -1, 1.5, float("nan"), float("inf"), "2"])
def test_a_cost_that_could_never_be_or_is_no_number_is_refused(redis: Redis, cost: Any) -> None:
    rate = redis.rate("api", 10, per_seconds=10, clock=HeldClock())
    with pytest.raises(ValueError, match="rate 'api': "):
        rate.take("a", cost)
    assert rate.peek("a").remaining == 10
