"""Small behaviours that users of other clients rely on: cancelling, sharing, limits, deleting, coming back twice."""

import queue
from collections.abc import Callable
from time import monotonic

import gevent
import pytest

from nucleon import green
from nucleon.amqp import Amqp, ChannelClosed, ConnectionLost, Queue
from nucleon.amqp.codec import methods
from nucleon.testing import TcpProxy, eventually

Connect = Callable[..., Amqp]


def test_consumers_of_one_queue_share_its_messages(broker: Amqp, jobs: Queue) -> None:
    jobs.put_many(b"%d" % number for number in range(20))
    with jobs.consumer(1) as first, jobs.consumer(1) as second:
        counts = [0, 0]

        def work(consumer: object, at: int) -> None:
            while True:
                try:
                    message = consumer.get(0.3)  # type: ignore[attr-defined]
                except queue.Empty:
                    return
                green.sleep(0.005)
                counts[at] += 1
                message.ack()

        gevent.joinall([gevent.spawn(work, first, 0), gevent.spawn(work, second, 1)], raise_error=True)
    assert sum(counts) == 20 and min(counts) > 3


def test_an_exclusive_consumer_keeps_others_out(jobs: Queue) -> None:
    with jobs.consumer(exclusive=True), pytest.raises(ChannelClosed) as caught:
        jobs.consumer().start()
    assert caught.value.code == 403
    with jobs.consumer(exclusive=True):
        pass


def test_a_consumer_may_be_opened_again_and_again(jobs: Queue) -> None:
    for number in range(10):
        jobs.put(b"%d" % number)
        with jobs.consumer(5) as consumer:
            assert consumer.get(5).ack()
    assert jobs.declare().consumer_count == 0


def test_a_consumer_of_a_missing_queue_says_which(broker: Amqp) -> None:
    with pytest.raises(ChannelClosed, match="no queue 'missing'") as caught:
        broker.queue("missing", declare=False).get(1)
    assert (caught.value.code, caught.value.method) == (404, "basic.consume")


def test_settling_twice_or_many_at_once(broker: Amqp, jobs: Queue) -> None:
    jobs.put_many(b"%d" % number for number in range(5))
    channel = broker.channel(consuming=True)
    messages = [channel.call(methods.BasicGet(queue="jobs")) for _ in range(5)]
    channel.send(methods.BasicAck(messages[2].delivery_tag, multiple=True))
    channel.send(methods.BasicNack(messages[4].delivery_tag, multiple=True, requeue=True))
    again = [channel.call(methods.BasicGet(queue="jobs")) for _ in range(2)]
    assert [message.body for message in again] == [b"3", b"4"]
    channel.send(methods.BasicAck(messages[0].delivery_tag))  # settled before: RabbitMQ closes the channel
    with pytest.raises(ChannelClosed, match="unknown delivery tag") as caught:
        channel.call(methods.BasicQos(0, 1))
    assert caught.value.code == 406


def test_queues_and_exchanges_are_deleted_only_when_that_is_wanted(broker: Amqp, jobs: Queue) -> None:
    jobs.put(b"x")
    with pytest.raises(ChannelClosed, match="not empty"):
        jobs.delete(if_empty=True)
    with jobs.consumer(), pytest.raises(ChannelClosed, match="in use"):
        jobs.delete(if_unused=True)
    assert jobs.purge() == 1
    jobs.delete(if_unused=True, if_empty=True)
    exchange = broker.exchange("used", kind="fanout")
    bound = broker.queue("bound").bind(exchange)
    bound.declare()
    with pytest.raises(ChannelClosed, match="in use"):
        exchange.delete(if_unused=True)
    bound.delete()
    exchange.delete(if_unused=True)


def test_an_exchange_is_declared_as_it_is_or_not_at_all(broker: Amqp) -> None:
    broker.exchange("kind", kind="direct").declare()
    with pytest.raises(ChannelClosed, match="inequivalent arg 'type'"):
        broker.exchange("kind", kind="fanout").declare()
    with pytest.raises(ConnectionLost, match="unknown exchange type"):
        broker.exchange("odd", kind="x-unknown").declare()  # RabbitMQ ends the connection for that
    broker.exchange("kind", kind="direct").declare()


def test_internal_exchanges_take_no_publishes(broker: Amqp) -> None:
    broker.exchange("inside", kind="fanout", internal=True).declare()
    with pytest.raises(ChannelClosed, match="cannot publish to internal") as caught:
        broker.publish("inside", "", b"x")
    assert caught.value.code == 403


def test_many_channels_work_side_by_side(broker: Amqp, jobs: Queue) -> None:
    jobs.declare()
    channels = [broker.channel(consuming=True) for _ in range(50)]
    assert len({channel.number for channel in channels}) == 50
    asked = [gevent.spawn(channel.call, methods.QueueDeclare(queue="jobs", passive=True)) for channel in channels]
    gevent.joinall(asked, raise_error=True)
    for channel in channels:
        channel.close()
    assert len(broker.consuming.get().channels) < 5


def test_it_comes_back_every_time(connect: Connect, proxy: TcpProxy) -> None:
    far = connect(proxy)
    work = far.queue("jobs")
    with work.consumer() as consumer:
        for number in range(5):
            work.put(b"%d" % number, retry=True, timeout=20)
            bodies = {consumer.get(10).body}
            while b"%d" % number not in bodies:
                bodies.add(consumer.get(10).body)
            proxy.drop()
    assert far.consuming.recoveries >= 5


def test_stop_is_bounded_when_the_network_is_a_black_hole(connect: Connect, proxy: TcpProxy) -> None:
    far = connect(proxy)
    consumers = [far.queue(f"q{number}").consumer().start() for number in range(5)]
    far.queue("q0").put(b"x")
    proxy.blackhole()
    begun = monotonic()
    far.stop()
    assert monotonic() - begun < 5
    assert all(consumer.is_over for consumer in consumers)


def test_a_client_may_start_again_after_it_was_stopped(broker: Amqp, jobs: Queue) -> None:
    jobs.put(b"1")
    jobs.get(5)
    broker.stop()
    broker.start()
    assert jobs.get(5).redelivered
    jobs.put(b"2")


def test_a_client_that_starts_anew_leaves_what_was_open(broker: Amqp, jobs: Queue) -> None:
    jobs.put(b"1")
    jobs.get(5)
    before = broker.consuming.connection
    assert before is not None
    broker.start()  # as a worker does after the fork
    assert not before.is_open and not broker.consumers
    assert jobs.get(5).redelivered


def test_a_blocked_loop_is_named_when_a_connection_dies_of_it(connect: Connect) -> None:
    client = connect(heartbeat_seconds=1)
    connection = client.publishing.get()
    connection._tick_due -= 3.0  # the beat comes three seconds late
    connection._beat()
    assert connection.is_open
    connection._lost(ConnectionResetError("RabbitMQ closed the connection"))
    assert "the program blocked the event loop for" in str(connection.error)


def test_a_tight_loop_of_publishes_lets_others_run(broker: Amqp, jobs: Queue) -> None:
    jobs.declare()
    turns = 0

    def others() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0.001)  # sockets and timers have their turn, not only greenlets that are ready
            turns += 1

    watching = gevent.spawn(others)
    for _ in range(20_000):
        jobs.put_nowait(bytes(1000))
    watching.kill()
    assert turns > 10
    assert eventually(lambda: jobs.qsize() == 20_000)


def test_a_socket_that_takes_no_more_pushes_back_and_loses_no_byte(connect: Connect, proxy: TcpProxy, jobs: Queue) -> None:
    far = connect(proxy)
    target = far.queue("jobs")
    target.put(b"first")
    proxy.blackhole("to_server")
    bodies = [bytes([number]) * 1_000_003 for number in range(40)]
    confirms = []
    with pytest.raises(queue.Full, match="bytes are unsent"):
        for body in bodies:
            confirms.append(target.put_async(body, timeout=0.3))
    assert 0 < len(confirms) < 40
    putting = gevent.spawn(target.put, b"last", timeout=30)  # waits for room
    proxy.pass_through()
    putting.get(timeout=30)
    for confirm in confirms:
        confirm.wait(10)
    for expected in [b"first", *bodies[: len(confirms)], b"last"]:
        with jobs.get(10) as message:
            assert message.body == expected


def test_a_window_that_is_full_pushes_back(connect: Connect, proxy: TcpProxy, jobs: Queue) -> None:
    far = connect(proxy, window=3)
    target = far.queue("jobs")
    target.put(b"0")
    proxy.blackhole("to_client")
    confirms = [target.put_async(b"%d" % number) for number in range(1, 4)]
    with pytest.raises(queue.Full, match="confirmed none of 3 messages"):
        target.put_async(b"no", timeout=0.2)
    waiting = [gevent.spawn(target.put, b"%d" % number) for number in range(4, 8)]
    gevent.sleep(0.05)
    waiting.pop().kill()
    proxy.pass_through()
    gevent.joinall(waiting, timeout=10, raise_error=True)
    assert all(confirm.is_done for confirm in confirms)
    assert [jobs.get(5).body for _ in range(7)] == [b"%d" % number for number in range(7)]


def test_a_refused_message_among_many_is_the_one_that_is_told(broker: Amqp) -> None:
    small = broker.queue("small", max_length=2, overflow="reject-publish")
    confirms = [small.put_async(b"%d" % number) for number in range(4)]
    outcomes = []
    for confirm in confirms:
        try:
            confirm.wait(5)
            outcomes.append(True)
        except queue.Full:
            outcomes.append(False)
    kept = [number for number, was_taken in enumerate(outcomes) if was_taken]
    assert len(kept) < 4
    assert [small.get(5).body for _ in kept] == [b"%d" % number for number in kept]


def test_several_greenlets_may_wait_for_one_confirm(connect: Connect, proxy: TcpProxy) -> None:
    far = connect(proxy)
    target = far.queue("jobs")
    target.put(b"0")
    proxy.delay(0.1, "to_client")
    confirm = target.put_async(b"1")
    waiting = [gevent.spawn(confirm.wait, 5) for _ in range(3)]
    gevent.joinall(waiting, raise_error=True)
    assert "taken" in repr(confirm)
