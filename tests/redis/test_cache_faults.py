"""The cache when things go wrong or old: other workers, stale values, absences, kills, Redis away."""

import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from nucleon import green
from nucleon.errors import DeadlineExceeded, NotFound, SetupError, Unavailable
from nucleon.redis import Redis
from nucleon.redis.cache import Cache, Keeping
from nucleon.secret import Secret
from nucleon.testing import HeldClock, eventually


@dataclass
class Item:
    id: int
    name: str


@pytest.fixture
def workers(redis_url: str) -> Iterator[tuple[Redis, Redis]]:
    """Two clients of one server: what two workers have."""
    pair = Redis(url=Secret(redis_url)), Redis(url=Secret(redis_url))
    yield pair
    for client in pair:
        client.stop()


def cache_on(client: Redis, clock: HeldClock | None = None, **keeping: Any) -> Cache[Item]:
    settings = Keeping(**{"ttl_seconds": 60, **keeping})
    return Cache(client, Item, "item:{id}", settings) if clock is None else Cache(client, Item, "item:{id}", settings, clock=clock)


class Load:
    """A loader that counts, waits while it is held, and fails when it is told to."""

    def __init__(self, name: str = "loaded") -> None:
        self.count = 0
        self.name = name
        self.go = green.Event()
        self.go.set()
        self.failure: Exception | None = None

    def __call__(self, id: int) -> Item:
        self.count += 1
        self.go.wait()
        if self.failure is not None:
            raise self.failure
        return Item(id, self.name)


def test_of_two_workers_one_loads_and_the_other_takes_its_value(workers: tuple[Redis, Redis]) -> None:
    one, other = (cache_on(client) for client in workers)
    load = Load()
    load.go.clear()
    waiting = [green.spawn(cache.get_or, load, id=1) for cache in (one, other) for _ in range(20)]
    eventually(lambda: load.count)
    load.go.set()
    assert {item.get().name for item in waiting} == {"loaded"}
    assert load.count == 1


def test_a_killed_loader_gives_its_claim_back_and_another_worker_loads(workers: tuple[Redis, Redis]) -> None:
    one, other = (cache_on(client) for client in workers)
    held, quick = Load("never"), Load("quick")
    held.go.clear()
    victim = green.spawn(one.get_or, held, id=1)
    eventually(lambda: held.count)
    heir = green.spawn(other.get_or, quick, id=1)
    victim.kill()
    assert heir.get(timeout=5).name == "quick"
    assert workers[0].exists("{item:1}:load") == 0


def test_a_worker_that_died_with_its_claim_holds_the_others_off_for_load_seconds_only(workers: tuple[Redis, Redis]) -> None:
    workers[0].set("{item:1}:load", "somebody who is gone", px=200)
    assert cache_on(workers[1]).get_or(Load(), id=1).name == "loaded"


def test_a_load_slower_than_its_claim_does_not_overwrite_a_newer_value(workers: tuple[Redis, Redis]) -> None:
    slow, quick = (cache_on(client, load_seconds=0.05) for client in workers)
    held = Load("old")
    held.go.clear()
    first = green.spawn(slow.get_or, held, id=1)
    eventually(lambda: held.count)
    assert quick.get_or(Load("new"), id=1).name == "new"
    held.go.set()
    assert first.get().name == "old"
    assert quick.get(id=1) == Item(1, "new")


def test_a_stale_value_is_given_at_once_and_loaded_again_by_one(workers: tuple[Redis, Redis]) -> None:
    clock = HeldClock()
    caches = [cache_on(client, clock, stale_seconds=30) for client in workers]
    caches[0].put(Item(1, "old"), id=1)
    clock.advance(61)
    load = Load("new")
    load.go.clear()
    for cache in caches:
        assert [cache.get_or(load, id=1).name for _ in range(10)] == ["old"] * 10
    eventually(lambda: load.count)
    load.go.set()
    eventually(lambda: caches[0].get(id=1) == Item(1, "new"))
    assert load.count == 1
    assert "stale" in repr(caches[0])


def test_a_refresh_that_fails_is_logged_and_the_next_reader_tries_again(
    workers: tuple[Redis, Redis], caplog: pytest.LogCaptureFixture
) -> None:
    clock = HeldClock()
    items = cache_on(workers[0], clock, stale_seconds=30)
    items.put(Item(1, "old"), id=1)
    clock.advance(61)
    load = Load("new")
    load.failure = Unavailable("the database is away")
    with caplog.at_level(logging.WARNING, "nucleon.redis"):
        assert items.get_or(load, id=1).name == "old"
        eventually(lambda: "could not refresh" in caplog.text)
    load.failure = None
    assert items.get_or(load, id=1).name == "old"
    eventually(lambda: items.get(id=1) == Item(1, "new"))


def test_a_refresh_knows_neither_the_deadline_nor_the_transaction_of_its_reader(workers: tuple[Redis, Redis]) -> None:
    clock = HeldClock()
    items = cache_on(workers[0], clock, stale_seconds=30)
    items.put(Item(1, "old"), id=1)
    clock.advance(61)
    left: list[float | None] = []

    def load(id: int) -> Item:
        left.append(green.remaining())
        return Item(id, "new")

    with green.deadline(1):
        items.get_or(load, id=1)
    assert eventually(lambda: left)[0] is not None
    assert 5 < (left[0] or 0) <= 10


@pytest.mark.parametrize("failure", [Unavailable("away"), ValueError("broken"), DeadlineExceeded("slow")])
def test_an_old_value_stands_in_when_loading_fails(workers: tuple[Redis, Redis], failure: Exception) -> None:
    clock = HeldClock()
    items = cache_on(workers[0], clock, stale_if_error_seconds=300)
    items.put(Item(1, "old"), id=1)
    clock.advance(200)
    load = Load()
    load.failure = failure
    assert items.get_or(load, id=1).name == "old"
    assert load.count == 1
    clock.advance(200)
    with pytest.raises(type(failure)):
        items.get_or(load, id=1)


def test_an_old_value_does_not_stand_in_for_what_is_gone(workers: tuple[Redis, Redis]) -> None:
    clock = HeldClock()
    items = cache_on(workers[0], clock, stale_if_error_seconds=300)
    items.put(Item(1, "old"), id=1)
    clock.advance(61)
    load = Load()
    load.failure = NotFound("deleted")
    with pytest.raises(NotFound):
        items.get_or(load, id=1)


def test_an_absence_is_remembered_for_negative_seconds(workers: tuple[Redis, Redis]) -> None:
    clock = HeldClock()
    one, other = (cache_on(client, clock, negative_seconds=5) for client in workers)
    load = Load()
    load.failure = NotFound("no item 1")
    for cache in (one, other, one):
        with pytest.raises(NotFound, match="no item 1"):
            cache.get_or(load, id=1)
    assert load.count == 1
    assert one.get(id=1) is None
    clock.advance(6)
    load.failure = None
    assert one.get_or(load, id=1).name == "loaded"


def test_an_absence_ends_with_a_put_or_an_invalidation(workers: tuple[Redis, Redis]) -> None:
    items = cache_on(workers[0], negative_seconds=60)
    load = Load()
    load.failure = NotFound("none")
    for end in (lambda: items.put(Item(1, "put"), id=1), lambda: items.invalidate(id=1)):
        items.invalidate(id=1)
        with pytest.raises(NotFound):
            items.get_or(load, id=1)
        end()
        assert items.get_or(Load("loaded"), id=1).name in ("put", "loaded")


def test_with_redis_away_nothing_is_loaded_unless_the_cache_was_told_to(redis_server: Any) -> None:
    client = Redis(url=Secret(redis_server.url))
    redis_server.stop()
    load = Load()
    with pytest.raises(Unavailable):
        cache_on(client).get_or(load, id=1)
    assert load.count == 0
    load.go.clear()
    items = cache_on(client, when_away="load")
    waiting = [green.spawn(items.get_or, load, id=1) for _ in range(10)]
    eventually(lambda: load.count)
    green.sleep(0.05)
    load.go.set()
    assert {one.get().name for one in waiting} == {"loaded"}
    assert load.count == 1
    client.stop()


def test_redis_may_go_in_the_middle_of_a_load(redis_server: Any) -> None:
    client = Redis(url=Secret(redis_server.url))
    items = cache_on(client, load_seconds=0.3)

    def load(id: int) -> Item:
        redis_server.stop()
        return Item(id, "good anyway")

    assert items.get_or(load, id=1).name == "good anyway"
    redis_server.start()
    assert items.get_or(Load("again"), id=1).name == "again"
    client.stop()


def test_an_invalidation_after_a_commit_is_tried_again_while_redis_is_away(redis_server: Any) -> None:
    client = Redis(url=Secret(redis_server.url))
    items = cache_on(client)
    forget = items.invalidation(id=1)
    redis_server.stop()
    forget()
    redis_server.start()
    eventually(lambda: (client.get("item:1") or b"")[16:17] == b"i")  # the mark of an invalidation
    client.stop()


def test_an_invalidation_goes_with_the_commit(workers: tuple[Redis, Redis], fresh_postgres_dsn: str) -> None:
    from nucleon.postgres import Postgres

    items, db = cache_on(workers[0]), Postgres(dsn=Secret(fresh_postgres_dsn))
    items.put(Item(1, "old"), id=1)
    with pytest.raises(ValueError), db.transaction():
        db.after_commit(items.invalidation(id=1))
        db.execute("select 1")
        raise ValueError("rolled back")
    assert items.get(id=1) is not None
    with db.transaction():
        db.after_commit(items.invalidation(id=1))
        db.execute("select 1")
        assert items.get(id=1) is not None
    assert items.get(id=1) is None
    db.stop()


def test_nobody_reads_what_was_invalidated_before_he_asked(workers: tuple[Redis, Redis]) -> None:
    """Readers and loaders of two workers, killed at random, while the source changes: no value is older than the last invalidation."""
    caches = [cache_on(client, load_seconds=0.2) for client in workers]
    source, forgotten, wrong, reads = [0], [0], [], []
    chance = random.Random(7)

    def load(id: int) -> Item:
        seen = source[0]
        green.sleep(chance.random() * 0.003)
        return Item(id, str(seen))

    def read(cache: Cache[Item]) -> None:
        while True:
            at_least = forgotten[0]
            item = cache.get_or(load, id=1)
            reads.append(1)
            if int(item.name) < at_least:
                wrong.append((item.name, at_least))

    readers = [green.spawn(read, cache) for cache in caches for _ in range(4)]
    for version in range(1, 150):
        source[0] = version
        chance.choice(caches).invalidate(id=1)
        forgotten[0] = version
        green.sleep(chance.random() * 0.005)
        for victim in chance.sample(range(len(readers)), 4):
            readers[victim].kill()
            readers[victim] = green.spawn(read, chance.choice(caches))
    for reader in readers:
        reader.kill()
    assert wrong == []
    assert len(reads) > 100


def test_memory_is_bounded_and_nothing_stays_behind(workers: tuple[Redis, Redis]) -> None:
    items = cache_on(workers[0])
    victims = []
    for number in range(50):
        held = Load()
        held.go.clear()
        victims.append(green.spawn(items.get_or, held, id=number))
    green.sleep(0.1)
    for victim in victims:
        victim.kill()
    assert "0 loading, 0 refreshing" in repr(items)
    assert workers[1].dbsize() == 0


def test_a_function_is_cached_by_its_parameters(workers: tuple[Redis, Redis]) -> None:
    calls: list[tuple[int, str]] = []

    @workers[0].cached("greeting:{id}:{language}", ttl_seconds=60)
    def greet(id: int, language: str = "en") -> Item:
        """Greet."""
        calls.append((id, language))
        return Item(id, language)

    assert greet(1) == greet(id=1) == greet(1, "en") == Item(1, "en")
    assert greet(1, language="de") == Item(1, "de")
    assert calls == [(1, "en"), (1, "de")]
    greet.invalidate(1)
    greet.invalidation(1, "de")()
    greet(1), greet(1, "de")
    assert len(calls) == 4
    assert greet.__doc__ == "Greet." and "greet" in repr(greet)


def test_a_cached_function_that_cannot_be_is_refused_where_it_stands(workers: tuple[Redis, Redis]) -> None:
    def by_id(id: int) -> Item:
        return Item(id, "")

    def bare(id: int):  # type: ignore[no-untyped-def]
        return id

    with pytest.raises(SetupError, match="names \\['day'\\], and the parameters are \\['id'\\]"):
        workers[0].cached("x:{day}", ttl_seconds=1)(by_id)
    with pytest.raises(SetupError, match="return annotation"):
        workers[0].cached("x:{id}", ttl_seconds=1)(bare)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [({"ttl_seconds": 0}, "ttl_seconds"), ({"stale_seconds": -1}, "stale_seconds"), ({"when_away": "hope"}, "when_away")],
)
def test_keepings_that_make_no_sense_are_refused(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(SetupError, match=match):
        Keeping(**{"ttl_seconds": 1, **wrong})
