"""Streams under attack: poison, entries that nobody takes care of, claims behind many others, trimmed and lost data."""

import logging
import os
import signal
from typing import Any

import pytest
from killing import killed_at_switch

from nucleon import Model, green
from nucleon.errors import SetupError
from nucleon.redis import Consumption, Group, Redis, Stream
from nucleon.testing import eventually


class Placed(Model):
    number: int


@pytest.fixture
def orders(redis: Redis) -> Stream[Placed]:
    return redis.stream(Placed, "orders")


def quick(orders: Stream[Placed], **options: Any) -> Group[Placed]:
    return orders.group("billing", **{"abandoned_seconds": 0.2, "block_seconds": 0.05, **options})


@pytest.mark.parametrize("poison", [b'{"number":"\xff"}', b"[" * 100_000, b"no JSON"])
def test_an_entry_that_cannot_be_read_is_a_dead_letter_whatever_is_wrong_with_it(redis: Redis, poison: bytes) -> None:
    anything = redis.stream(object, "orders")
    redis.xadd("orders", {"v": poison})
    anything.add("good")
    group = anything.group("billing")
    assert [delivery.value for delivery in group.next_deliveries(10)] == ["good"]
    assert [fields[b"v"] for _, fields in redis.xrange(group.dead_key)] == [poison]


def test_an_abandoned_entry_is_found_behind_many_that_are_worked_on(orders: Stream[Placed]) -> None:
    for number in range(100):
        orders.add(Placed(number))
    busy, dead, alive = quick(orders), quick(orders), quick(orders)
    assert len(busy.next_deliveries(99)) == 99
    assert len(dead.next_deliveries(1)) == 1  # and never heard of again
    touching = green.spawn(busy.keep_touching)
    found = eventually(lambda: alive.next_deliveries(1))
    touching.kill()
    assert [delivery.value.number for delivery in found] == [99]


def test_an_entry_that_a_loop_passed_over_comes_again(orders: Stream[Placed]) -> None:
    orders.add(Placed(1))
    group = quick(orders)
    attempts = []
    for delivery in group.deliveries():
        attempts.append(delivery.attempt)
        if len(attempts) < 2:
            continue  # no `with delivery:`, and nothing said about it
        break
    for delivery in group.deliveries():  # and one that a loop was left with
        with delivery:
            attempts.append(delivery.attempt)
            group.stopping = True
    assert attempts == [1, 2, 3]
    assert group.backlog() == 0


def test_entries_that_were_trimmed_before_they_were_handled_are_told(
    redis: Redis, orders: Stream[Placed], caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        orders.add(Placed(number))
    dead, alive = quick(orders), quick(orders)
    assert len(dead.next_deliveries(3)) == 3
    orders.trim(1)
    with caplog.at_level(logging.ERROR):
        found = eventually(lambda: alive.next_deliveries(1))
        eventually(lambda: alive.next_deliveries(1) or alive.trimmed == 2)
    assert [delivery.value.number for delivery in found] == [2]
    assert "trimmed before" in caplog.text and "maximum_length" in caplog.text


@pytest.mark.parametrize("fault", ["stream deleted", "group destroyed"])
def test_a_consumption_goes_on_when_its_stream_or_group_is_taken_away(redis: Redis, orders: Stream[Placed], fault: str) -> None:
    handled: list[int] = []
    consumption = Consumption(quick(orders, block_seconds=0.5), lambda order: handled.append(order.number)).start()
    eventually(lambda: [one for one in redis.client_list() if "b" in one["flags"]])
    if fault == "stream deleted":
        redis.delete("orders")
    else:
        redis.xgroup_destroy("orders", "billing")
    orders.add(Placed(7))
    eventually(lambda: handled == [7])
    consumption.stop()


def test_a_consumer_killed_at_any_wait_leaves_its_entry_to_others(orders: Stream[Placed]) -> None:
    handled: set[int] = set()
    switch, is_over = 1, False
    while not is_over:
        orders.add(Placed(switch))
        group = quick(orders)

        def take(group: Group[Placed] = group) -> None:
            for delivery in group.deliveries():
                with delivery:
                    green.sleep(0)
                    handled.add(delivery.value.number)
                group.stopping = True

        is_over = killed_at_switch(switch, take)
        switch += 1
    rest = Consumption(quick(orders), lambda order: handled.add(order.number)).start()
    eventually(lambda: handled == set(range(1, switch)))
    rest.stop()
    assert switch > 5


def test_nothing_goes_on_when_the_one_who_stops_a_consumption_is_killed(orders: Stream[Placed]) -> None:
    orders.add(Placed(1))
    group, never = quick(orders), green.Event()
    consumption = Consumption(group, lambda order: never.wait()).start()
    eventually(lambda: group._in_hand)
    toucher, running = consumption._toucher, tuple(consumption._running)
    assert toucher is not None and len(running) == 1
    stopping = green.spawn(consumption.stop, 30)
    eventually(lambda: consumption._reader is None)
    stopping.kill()
    eventually(lambda: toucher.dead and running[0].dead)
    assert not group._in_hand
    handled: list[int] = []
    other = Consumption(quick(orders), lambda order: handled.append(order.number)).start()
    eventually(lambda: handled == [1])
    other.stop()


def test_an_entry_is_not_kept_from_others_by_a_child_that_its_consumer_left_behind(redis: Redis, orders: Stream[Placed]) -> None:
    orders.add(Placed(1))
    consumer = os.fork()
    if consumer == 0:
        for _delivery in quick(orders).deliveries():
            green.sleep(0.01)
            child = os.fork()
            if child == 0:
                green.sleep(30)
                os._exit(0)
            redis.rpush("child", child)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(consumer, 0)
    try:
        found = eventually(lambda: quick(orders).next_deliveries(1), within_seconds=3)
        assert [delivery.value.number for delivery in found] == [1]
    finally:
        os.kill(int(redis.lpop("child")), signal.SIGKILL)


def test_a_group_that_nobody_has_used_yet_has_no_backlog(orders: Stream[Placed]) -> None:
    assert quick(orders).backlog() == 0


@pytest.mark.parametrize("count", [0, -1])
def test_a_stream_is_read_by_one_entry_at_a_time_at_least(orders: Stream[Placed], count: int) -> None:
    orders.add(Placed(1))
    with pytest.raises(SetupError, match="count"):
        list(orders.read(count=count))
