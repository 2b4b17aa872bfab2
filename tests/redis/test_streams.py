"""Streams: typed values, groups that lose nothing, dead letters, an orderly stop."""

import logging
from typing import Any

import pytest

from nucleon import Model, green
from nucleon.errors import SetupError, Unavailable
from nucleon.redis import Consumption, Group, Redis, Stream
from nucleon.secret import Secret
from nucleon.testing import eventually


class Placed(Model):
    number: int


@pytest.fixture
def orders(redis: Redis) -> Stream[Placed]:
    return redis.stream(Placed, "orders")


def quick(orders: Stream[Placed], name: str = "billing", **options: Any) -> Group[Placed]:
    return orders.group(name, **{"abandoned_seconds": 0.2, "block_seconds": 0.05, **options})


def drained(group: Group[Placed], count: int) -> list[int]:
    """Take and acknowledge so many entries."""
    taken: list[int] = []
    for delivery in group.deliveries():
        with delivery:
            taken.append(delivery.value.number)
        group.stopping = len(taken) >= count
    return taken


def test_what_is_added_is_read_in_order_and_trimmed_beyond_its_length(redis: Redis) -> None:
    orders = redis.stream(Placed, "orders", maximum_length=1000)
    ids = [orders.add(Placed(number)) for number in range(250)]
    assert [(id, value.number) for id, value in orders.read(count=100)] == list(zip(ids, range(250), strict=True))
    assert [value.number for _, value in orders.read(after=ids[-2])] == [249]
    for number in range(2000):
        orders.add(Placed(number))
    assert orders.length() < 1200
    assert orders.trim(10) > 0 and orders.length() == 10
    assert "2250 added" in repr(orders)


def test_each_entry_goes_to_one_consumer_of_a_group_and_to_every_group(redis: Redis, orders: Stream[Placed]) -> None:
    for number in range(20):
        orders.add(Placed(number))
    taken: list[int] = []
    consumers = [Consumption(quick(orders), lambda placed: taken.append(placed.number)).start() for _ in range(3)]
    eventually(lambda: len(taken) == 20)
    for consumer in consumers:
        assert consumer.stop() == 0
    assert sorted(taken) == list(range(20))
    assert drained(quick(orders, "mail"), 20) == list(range(20))
    assert quick(orders).backlog() == quick(orders, "mail").backlog() == 0
    assert redis.xinfo_consumers("orders", "billing") == []


def test_a_block_that_fails_is_logged_and_tried_again(orders: Stream[Placed], caplog: pytest.LogCaptureFixture) -> None:
    orders.add(Placed(1))
    attempts: list[int] = []
    group = quick(orders)
    for delivery in group.deliveries():
        with delivery:
            attempts.append(delivery.attempt)
            if delivery.attempt < 3:
                raise ValueError("the printer is on fire")
            group.stopping = True
    assert attempts == [1, 2, 3]
    assert caplog.text.count("the printer is on fire") >= 2
    assert group.backlog() == 0


def test_after_so_many_deliveries_an_entry_is_a_dead_letter(redis: Redis, orders: Stream[Placed], caplog: pytest.LogCaptureFixture) -> None:
    orders.add(Placed(1))
    orders.add(Placed(2))
    done: list[int] = []

    def handle(placed: Placed) -> None:
        if placed.number == 1:
            raise ValueError("poison")
        done.append(placed.number)

    group = quick(orders, maximum_deliveries=3, abandoned_seconds=0.05)
    consumption = Consumption(group, handle, concurrency=2).start()
    eventually(lambda: group.dead)
    consumption.stop()
    assert done == [2]
    assert (group.delivered, group.backlog()) == (4, 0)
    ((_, letter),) = redis.xrange("{orders}:dead:billing")
    assert (letter[b"v"], letter[b"reason"]) == (b'{"number":1}', b"delivered 3 times")
    dead = redis.stream(Placed, "{orders}:dead:billing")
    assert [value.number for _, value in dead.read()] == [1], "dead letters are a stream that can be read and added again"


def test_what_a_group_cannot_read_or_puts_aside_is_a_dead_letter_at_once(redis: Redis, orders: Stream[Placed]) -> None:
    redis.xadd("orders", {"v": b"no JSON"})
    redis.xadd("orders", {"other": b"field"})
    orders.add(Placed(3))
    group = quick(orders)
    for delivery in group.deliveries():
        delivery.put_aside("not wanted")
        group.stopping = True
    assert (group.dead, group.backlog()) == (3, 0)


def test_entries_of_a_consumer_that_died_are_claimed_by_another(orders: Stream[Placed]) -> None:
    orders.add(Placed(1))
    dead, alive = quick(orders), quick(orders)
    assert [delivery.value.number for delivery in dead.next_deliveries(10)] == [1]  # and never heard of again
    assert drained(alive, 1) == [1]
    assert alive.claimed == 1


def test_a_long_block_keeps_its_entry(orders: Stream[Placed]) -> None:
    orders.add(Placed(1))
    taken: list[str] = []

    def slow(placed: Placed) -> None:
        taken.append("begun")
        green.sleep(0.8)

    consumers = [Consumption(quick(orders), slow).start() for _ in range(2)]
    eventually(lambda: sum(consumer.group.acknowledged for consumer in consumers) == 1)
    for consumer in consumers:
        consumer.stop()
    assert taken == ["begun"]


def test_stopping_finishes_what_runs_and_gives_up_what_takes_too_long(orders: Stream[Placed]) -> None:
    for number in range(4):
        orders.add(Placed(number))
    begun, finished, go = [], [], green.Event()

    def handle(placed: Placed) -> None:
        begun.append(placed.number)
        if placed.number == 0:
            green.sleep(60)
        go.wait()
        finished.append(placed.number)

    consumption = Consumption(quick(orders), handle, concurrency=2).start()
    eventually(lambda: len(begun) == 2)
    stopping = green.spawn(consumption.stop, 0.5)
    green.sleep(0.1)
    go.set()
    assert stopping.get() == 1
    assert (begun, finished) == ([0, 1], [1])
    assert sorted(drained(quick(orders), 3)) == [0, 2, 3]


def test_a_handler_ends_at_its_deadline_and_knows_nothing_of_the_one_who_started_it(orders: Stream[Placed]) -> None:
    orders.add(Placed(1))
    left: list[float] = []

    def handle(placed: Placed) -> None:
        left.append(green.remaining() or 0)
        if len(left) == 1:
            green.sleep(5)

    with green.deadline(60):
        consumption = Consumption(quick(orders), handle, handle_seconds=0.1).start()
    eventually(lambda: consumption.group.acknowledged)
    consumption.stop()
    assert len(left) == 2 and all(0 < seconds <= 0.1 for seconds in left)


def test_redis_may_go_and_come_back_with_and_without_its_data(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    orders = redis.stream(Placed, "orders")
    taken: list[int] = []
    consumption = Consumption(quick(orders), lambda placed: taken.append(placed.number)).start()
    orders.add(Placed(1))
    eventually(lambda: taken == [1])
    redis_server.stop()
    with pytest.raises(Unavailable):
        orders.add(Placed(2))
    redis_server.start()
    eventually(lambda: not consumption.group._is_away)
    orders.add(Placed(3))
    eventually(lambda: taken[-1] == 3)
    redis.flushall()
    orders.add(Placed(4))
    eventually(lambda: taken[-1] == 4)
    consumption.stop()
    redis.stop()


def test_what_was_done_while_redis_went_away_is_acknowledged_when_it_is_back(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    orders = redis.stream(Placed, "orders")
    group = quick(orders, abandoned_seconds=30)
    orders.add(Placed(1))
    (delivery,) = group.next_deliveries(1)
    with delivery:
        redis_server.stop()
    redis_server.start()
    eventually(lambda: group.next_deliveries(1) == [] and group.acknowledged == 1)
    assert group.backlog() == 0
    redis.stop()


def test_a_fault_of_the_program_does_not_end_a_consumption(redis: Redis, orders: Stream[Placed], caplog: pytest.LogCaptureFixture) -> None:
    redis.set("orders", "no stream")
    taken: list[int] = []
    with caplog.at_level(logging.ERROR, "nucleon.redis"):
        consumption = Consumption(quick(orders), lambda placed: taken.append(placed.number)).start()
        eventually(lambda: "goes on after a second" in caplog.text)
    redis.delete("orders")
    orders.add(Placed(1))
    eventually(lambda: taken == [1])
    consumption.stop()


def test_a_thousand_entries_survive_consumers_that_are_killed(orders: Stream[Placed]) -> None:
    taken: set[int] = set()

    def work() -> None:
        for delivery in quick(orders, abandoned_seconds=0.1, maximum_deliveries=100).deliveries():
            with delivery:
                green.sleep(0)
                taken.add(delivery.value.number)

    for number in range(300):
        orders.add(Placed(number))
    for round in range(20):
        victims = [green.spawn(work) for _ in range(3)]
        green.sleep(0.005 * (round % 4))
        for victim in victims:
            victim.kill()
    survivor = green.spawn(work)
    eventually(lambda: len(taken) == 300)
    survivor.kill()


def test_what_could_not_be_put_aside_keeps_nothing_from_others(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    orders = redis.stream(Placed, "orders")
    orders.add(Placed(1))
    redis.xadd("orders", {"v": b"no JSON"})
    group = quick(orders)

    def break_off(*_: Any) -> None:
        raise Unavailable("Redis went away just now")

    group.put_aside = break_off  # type: ignore[method-assign]
    assert group.next_deliveries(10) == []
    assert "0 in hand" in repr(group)
    del group.put_aside
    assert drained(quick(orders), 1) == [1]
    redis.stop()


@pytest.mark.parametrize("options", [{"abandoned_seconds": 0}, {"maximum_deliveries": 0}, {"block_seconds": 0}, {"maximum_dead": 0}])
def test_groups_that_make_no_sense_are_refused(orders: Stream[Placed], options: dict[str, Any]) -> None:
    with pytest.raises(SetupError):
        orders.group("x", **options)
    with pytest.raises(SetupError):
        Consumption(quick(orders), print, concurrency=0)
