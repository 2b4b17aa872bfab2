"""The typed cache: values, expiry, one load for many misses."""

from dataclasses import dataclass

import pytest

from nucleon import green
from nucleon.errors import DeadlineExceeded, NotFound, SetupError
from nucleon.redis import Redis
from nucleon.redis.cache import Cache


@dataclass
class Item:
    id: int
    name: str


@pytest.fixture
def items(redis: Redis) -> Cache[Item]:
    return redis.of(Item, "item:{id}", ttl_seconds=60)


class Source:
    """A loader that counts its calls and waits until it is let go."""

    def __init__(self) -> None:
        self.loads = 0
        self.go = green.Event()

    def __call__(self, id: int) -> Item:
        self.loads += 1
        number = self.loads
        self.go.wait()
        return Item(id, f"load {number}")


def test_what_is_put_comes_back_with_its_type(items: Cache[Item]) -> None:
    assert items.get(id=1) is None
    items.put(Item(1, "ä"), id=1)
    assert items.get(id=1) == Item(1, "ä")
    assert "1 hits, 1 misses" in repr(items)


def test_a_value_expires(redis: Redis, items: Cache[Item]) -> None:
    items.put(Item(1, "a"), id=1)
    assert 59 <= int(redis.ttl("item:1")) <= 60


def test_an_invalidated_value_is_gone(items: Cache[Item]) -> None:
    items.put(Item(1, "a"), id=1)
    items.invalidate(id=1)
    assert items.get(id=1) is None


def test_a_hundred_equal_misses_load_once(items: Cache[Item]) -> None:
    source = Source()
    waiting = [green.spawn(items.get_or, source, id=7) for _ in range(100)]
    while not source.loads:
        green.sleep()
    source.go.set()
    assert {one.get().name for one in waiting} == {"load 1"}
    assert source.loads == 1
    assert items.get_or(source, id=7).name == "load 1"


def test_different_keys_load_at_the_same_time(items: Cache[Item]) -> None:
    source = Source()
    waiting = [green.spawn(items.get_or, source, id=number) for number in range(3)]
    while source.loads < 3:
        green.sleep()
    source.go.set()
    assert [one.get().id for one in waiting] == [0, 1, 2]


def test_an_error_reaches_everybody_who_waits_and_is_not_kept(items: Cache[Item]) -> None:
    loads: list[int] = []

    def fail(id: int) -> Item:
        loads.append(id)
        green.sleep(0.05)
        raise NotFound(f"no item {id}")

    waiting = [green.spawn(items.get_or, fail, id=1) for _ in range(5)]
    for one in waiting:
        with pytest.raises(NotFound):
            one.get()
    assert loads == [1]
    with pytest.raises(NotFound):
        items.get_or(fail, id=1)
    assert len(loads) == 2


def test_the_next_in_line_loads_when_the_loader_runs_out_of_time(items: Cache[Item]) -> None:
    source = Source()

    def hurried() -> Item:
        with green.deadline(0.1):
            return items.get_or(source, id=1)

    first = green.spawn(hurried)
    while not source.loads:
        green.sleep()
    second = green.spawn(items.get_or, source, id=1)
    with pytest.raises(DeadlineExceeded):
        first.get()
    source.go.set()
    assert second.get().name == "load 2"


def test_a_load_that_began_before_an_invalidation_is_not_stored(items: Cache[Item]) -> None:
    source = Source()
    early = green.spawn(items.get_or, source, id=1)
    while not source.loads:
        green.sleep()
    items.invalidate(id=1)
    late = green.spawn(items.get_or, source, id=1)
    while source.loads < 2:
        green.sleep()
    source.go.set()
    early.get()
    late.get()
    assert items.get(id=1) == Item(1, "load 2")
    items.invalidate(id=1)
    assert items.get(id=1) is None


def test_a_value_of_another_shape_is_a_miss(redis: Redis, items: Cache[Item]) -> None:
    redis.set("item:1", '{"old": true}')
    assert items.get(id=1) is None
    assert items.get_or(lambda id: Item(id, "new"), id=1) == Item(1, "new")
    assert items.get(id=1) == Item(1, "new")


def test_keys_of_different_values_differ(redis: Redis) -> None:
    pairs = redis.of(Item, "pair:{a}:{b}", ttl_seconds=1)
    assert pairs.key(a="1", b=2) == "pair:1:2"
    assert pairs.key(a="1:2", b="3") != pairs.key(a="1", b="2:3")
    with pytest.raises(TypeError, match=r"takes \['a', 'b'\]"):
        pairs.key(a=1)


def test_patterns_are_checked_at_once(redis: Redis) -> None:
    with pytest.raises(SetupError, match="plain names"):
        redis.of(Item, "item:{}", ttl_seconds=1)
    with pytest.raises(SetupError, match="ttl_seconds"):
        redis.of(Item, "item:{id}", ttl_seconds=0)
