"""A greenlet killed at every switch point of put, get, ack, publish and rpc: nobody else gets its confirm, reply or message."""

import queue
from collections.abc import Callable

import gevent
import pytest
from killing import killed_at_switch

from nucleon import green
from nucleon.amqp import Amqp, Message, NoAnswer, Queue
from nucleon.testing import TcpProxy, eventually

SWITCHES = 40  # nothing below switches so often


def at_every_switch(work: Callable[[int], object], check: Callable[[int], None]) -> int:
    """Kill `work` at its first, second, ... switch until it ends by itself; return how many were tried."""
    for number in range(1, SWITCHES):
        ended = killed_at_switch(number, lambda number=number: work(number))  # type: ignore[misc]
        check(number)
        if ended:
            return number
    raise AssertionError(f"it switches more than {SWITCHES} times")


def rest_of(source: Queue, count: int) -> list[bytes]:
    """Take messages until the queue is empty, at least `count` are there."""
    bodies = []
    for _ in range(count):
        with source.get(10) as message:
            bodies.append(message.body)
    with pytest.raises(queue.Empty):
        bodies.append(source.get(0.05).body)
    return bodies


@pytest.mark.parametrize("is_warm", [True, False], ids=["warm", "cold"])
def test_a_killed_put_leaves_the_next_ones_their_own_confirms(connect: object, jobs: Queue, is_warm: bool) -> None:
    client: Amqp = connect()  # type: ignore[operator]
    if is_warm:
        client.queue("jobs").put(b"first")
        jobs.get(5).ack()

    def work(number: int) -> None:
        client.queue("jobs").put(b"killed %d" % number)

    def check(number: int) -> None:
        client.queue("jobs").put(b"after %d" % number)
        bodies = set()
        while b"after %d" % number not in bodies:
            with jobs.get(10) as message:
                bodies.add(message.body)
        assert bodies <= {b"killed %d" % number, b"after %d" % number}

    at_every_switch(work, check)
    assert client.publishers.unconfirmed() == 0


def test_a_killed_get_loses_no_message(connect: object, jobs: Queue) -> None:
    client: Amqp = connect(prefetch=3)  # type: ignore[operator]
    source = client.queue("jobs")
    jobs.declare()

    def work(number: int) -> None:
        jobs.put(b"%d" % number)
        message = source.get(10)
        gevent.sleep(0)
        message.ack()

    def check(number: int) -> None:
        client.stop()  # what a killed greenlet held goes back with its connection
        client.start()
        jobs.put(b"last")
        bodies = []
        while b"last" not in bodies:
            with source.get(10) as message:
                bodies.append(message.body)
        assert set(bodies) <= {b"%d" % number, b"last"}

    at_every_switch(work, check)
    assert jobs.qsize() == 0


def test_a_killed_getter_passes_its_message_to_the_next(jobs: Queue) -> None:
    with jobs.consumer(10) as consumer:
        deliver = consumer.take
        for number in range(20):
            first, second = gevent.spawn(consumer.get, 10), gevent.spawn(consumer.get, 10)
            eventually(lambda: len(consumer._turns) == 2, every_seconds=0)

            def killing_first(message: Message, first: gevent.Greenlet = first) -> None:
                first.kill(block=False)  # in the same turn of the loop that wakes it, just before
                deliver(message)

            consumer.take = killing_first  # type: ignore[method-assign]
            jobs.put(b"%d" % number)
            assert second.get(timeout=5).ack()
            assert isinstance(first.value, gevent.GreenletExit)


def test_a_killed_fetch_gives_its_message_back(connect: object, jobs: Queue) -> None:
    client: Amqp = connect()  # type: ignore[operator]
    source = client.queue("jobs")
    jobs.put(b"x")
    taken = []

    def work(_number: int) -> None:
        taken.append(source.get_nowait())

    def check(_number: int) -> None:
        if taken:
            taken.pop().nack()
        eventually(lambda: jobs.qsize() == 1)

    at_every_switch(work, check)


def test_a_killed_question_leaves_the_next_ones_their_own_answers(connect: object, jobs: Queue) -> None:
    client: Amqp = connect()  # type: ignore[operator]
    jobs.put_many([b"1", b"2", b"3"])
    eventually(lambda: jobs.qsize() == 3)

    def work(_number: int) -> None:
        client.queue("jobs").declare()
        client.queue("other").declare()

    def check(_number: int) -> None:
        assert client.queue("jobs").declare().message_count == 3
        assert client.queue("other").declare().message_count == 0

    at_every_switch(work, check)


def test_a_killed_rpc_leaves_the_next_ones_their_own_answers(connect: object, broker: Amqp) -> None:
    def answer() -> None:
        for message in service:
            with message:
                message.reply(message.body)

    service = broker.queue("echo")
    service.declare()
    answering = green.spawn(answer)
    client: Amqp = connect()  # type: ignore[operator]

    def work(number: int) -> None:
        client.rpc("echo", b"killed %d" % number, timeout=5)

    def check(number: int) -> None:
        assert client.rpc("echo", b"after %d" % number, timeout=5).body == b"after %d" % number

    at_every_switch(work, check)
    answering.kill()


def test_a_killed_consumer_leaves_nothing_behind(connect: object, jobs: Queue) -> None:
    client: Amqp = connect()  # type: ignore[operator]
    jobs.put_many([b"1", b"2"])

    def work(_number: int) -> None:
        with client.queue("jobs").consumer(5) as consumer:
            consumer.get(5).nack()

    def check(_number: int) -> None:
        eventually(lambda: jobs.qsize() == 2 and jobs.declare().consumer_count == 0)

    at_every_switch(work, check)
    assert not client.consumers and not client.consuming.dependents


def test_a_late_answer_reaches_nobody(connect: object, proxy: TcpProxy, jobs: Queue) -> None:
    far: Amqp = connect(proxy, answer_seconds=0.3)  # type: ignore[operator]
    jobs.put_many([b"1", b"2"])
    eventually(lambda: jobs.qsize() == 2)
    assert far.queue("other").declare().message_count == 0
    proxy.delay(0.6, "to_client")
    with pytest.raises(NoAnswer):
        far.queue("other").declare(0.3)
    proxy.pass_through()
    assert far.queue("jobs").declare(5).message_count == 2


def test_confirms_are_matched_by_tag_when_one_publisher_was_killed(connect: object, proxy: TcpProxy, jobs: Queue) -> None:
    far: Amqp = connect(proxy)  # type: ignore[operator]
    target, missing = far.queue("jobs"), far.queue("missing", declare=False)
    target.put(b"0")
    proxy.delay(0.2, "to_client")
    killed = gevent.spawn(missing.put, b"lost")  # would be unroutable
    eventually(lambda: far.publishers.unconfirmed() == 1)
    second = gevent.spawn(target.put, b"second")
    killed.kill()
    second.get(timeout=5)
    assert rest_of(jobs, 2) == [b"0", b"second"]
