"""Times and numbers that make no sense are refused where they are written, by every tool, and by the settings."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nucleon.errors import SetupError
from nucleon.redis import Consumption, Redis, Sessions, Settings
from nucleon.secret import Secret

Make = Callable[[Redis, Any], object]

TIMES: dict[str, Make] = {
    "cache ttl": lambda redis, value: redis.of(str, "k:{id}", ttl_seconds=value),
    "cache load": lambda redis, value: redis.of(str, "k:{id}", ttl_seconds=1, load_seconds=value),
    "answers ttl": lambda redis, value: redis.answers(ttl_seconds=value),
    "lease ttl": lambda redis, value: redis.lease("a", ttl_seconds=value),
    "rate per": lambda redis, value: redis.rate("a", 5, per_seconds=value),
    "rate patience": lambda redis, value: redis.rate("a", 5, per_seconds=1, patience_seconds=value),
    "counter window": lambda redis, value: redis.counter("a", window_seconds=value),
    "idempotency ttl": lambda redis, value: redis.idempotency(ttl_seconds=value),
    "idempotency running": lambda redis, value: redis.idempotency(running_seconds=value),
    "group abandoned": lambda redis, value: redis.stream(str, "a").group("g", abandoned_seconds=value),
    "group block": lambda redis, value: redis.stream(str, "a").group("g", block_seconds=value),
    "consumption handle": lambda redis, value: Consumption(redis.stream(str, "a").group("g"), print, handle_seconds=value),
    "session idle": lambda redis, value: Sessions(redis, str, idle_seconds=value),
    "session absolute": lambda redis, value: Sessions(redis, str, absolute_seconds=value),
}
SPANS: dict[str, Make] = {
    "cache stale": lambda redis, value: redis.of(str, "k:{id}", ttl_seconds=1, stale_seconds=value),
    "cache stale if error": lambda redis, value: redis.of(str, "k:{id}", ttl_seconds=1, stale_if_error_seconds=value),
    "cache negative": lambda redis, value: redis.of(str, "k:{id}", ttl_seconds=1, negative_seconds=value),
    "answers local": lambda redis, value: redis.answers(ttl_seconds=1, local_seconds=value),
    "answers client": lambda redis, value: redis.answers(ttl_seconds=1, client_seconds=value),
}
NUMBERS: dict[str, Make] = {
    "answers local": lambda redis, value: redis.answers(ttl_seconds=1, maximum_local=value),
    "rate limit": lambda redis, value: redis.rate("a", value, per_seconds=1),
    "rate burst": lambda redis, value: redis.rate("a", 5, per_seconds=1, burst=value),
    "stream length": lambda redis, value: redis.stream(str, "a", maximum_length=value),
    "group deliveries": lambda redis, value: redis.stream(str, "a").group("g", maximum_deliveries=value),
    "group dead": lambda redis, value: redis.stream(str, "a").group("g", maximum_dead=value),
    "consumption": lambda redis, value: Consumption(redis.stream(str, "a").group("g"), print, concurrency=value),
    "queue": lambda redis, value: redis.hub().subscribe("a", maximum=value),
    "queue bytes": lambda redis, value: redis.hub().subscribe("a", maximum_bytes=value),
}


@pytest.fixture
def redis() -> Iterator[Redis]:
    client = Redis(url=Secret("redis://127.0.0.1:1"))  # nobody is asked
    yield client
    client.stop()


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [0, -1, 1e-9, 1e300, float("nan"), float("inf"), "60s", True])
def test_a_time_is_a_number_of_seconds(redis: Redis, name: str, value: object) -> None:
    with pytest.raises(SetupError, match="must be a number of seconds"):
        TIMES[name](redis, value)


@pytest.mark.parametrize("name", SPANS)
@pytest.mark.parametrize("value", [-1, 1e300, float("nan"), float("inf"), "60s", None])
def test_a_time_that_may_be_nothing_is_a_number_all_the_same(redis: Redis, name: str, value: object) -> None:
    SPANS[name](redis, 0)
    with pytest.raises(SetupError, match="must be a number of seconds"):
        SPANS[name](redis, value)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, -1, 2**60, 1.5, float("nan"), float("inf"), "5", True])
def test_a_number_of_things_is_whole(redis: Redis, name: str, value: object) -> None:
    with pytest.raises(SetupError, match="must be a whole number"):
        NUMBERS[name](redis, value)


@pytest.mark.parametrize("setting", ["wait_seconds", "connect_seconds", "socket_seconds", "local_seconds"])
@pytest.mark.parametrize("value", [0, float("nan"), float("inf")])
def test_a_settings_file_cannot_say_nan(setting: str, value: float) -> None:
    with pytest.raises(SetupError, match=setting):
        Settings(**{setting: value})
