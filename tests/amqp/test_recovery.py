"""What happens to each operation when the network or RabbitMQ goes away, and afterwards (the table in docs/amqp.md)."""

import queue
from time import monotonic

import gevent
import pytest
from private_servers import PrivateRabbit

from nucleon import green
from nucleon.amqp import (
    AccessRefused,
    Amqp,
    ChannelClosed,
    ConnectionBlocked,
    ConnectionLost,
    ConsumerCancelled,
    OutcomeUnknown,
    Queue,
    StaleDelivery,
)
from nucleon.errors import DeadlineExceeded
from nucleon.testing import TcpProxy, eventually


@pytest.fixture
def far(connect: object, proxy: TcpProxy) -> Amqp:
    """A client behind the proxy."""
    client: Amqp = connect(proxy)  # type: ignore[operator]
    return client


def test_unacknowledged_messages_come_again_after_a_reset_and_none_is_lost(far: Amqp, proxy: TcpProxy, jobs: Queue) -> None:
    jobs.put_many(b"%d" % number for number in range(100))
    with far.queue("jobs").consumer(100) as consumer:
        first = [consumer.get(5) for _ in range(100)]
        proxy.drop()
        again = [consumer.get(10) for _ in range(100)]
        assert sorted(message.body for message in again) == sorted(message.body for message in first)
        assert all(message.redelivered for message in again)
        assert all(message.is_stale for message in first)
        assert not first[0].ack()
        with pytest.raises(StaleDelivery):
            first[1].ack(strict=True)
        assert consumer.stale == 2
        assert all(message.ack() for message in again)
    assert eventually(lambda: jobs.qsize() == 0)


def test_a_waiting_get_goes_on_after_a_reset(far: Amqp, proxy: TcpProxy, jobs: Queue) -> None:
    work = far.queue("jobs")
    waiting = gevent.spawn(work.get, 20)
    eventually(lambda: far.consumers and far.consuming.connection is not None)
    proxy.drop()
    jobs.put(b"x")
    assert waiting.get(timeout=10).body == b"x"


def test_a_get_while_away_honours_its_timeout(far: Amqp, proxy: TcpProxy) -> None:
    work = far.queue("jobs")
    with pytest.raises(queue.Empty):
        work.get(0.01)
    proxy.reset()
    with pytest.raises((queue.Empty, ConnectionLost)):
        work.get(0.3)
    with green.deadline(0.3), pytest.raises(DeadlineExceeded):
        work.get()


def test_a_put_in_flight_is_unknown_and_a_later_one_waits_for_the_way_back(far: Amqp, proxy: TcpProxy) -> None:
    work = far.queue("jobs")
    work.put(b"1")
    proxy.blackhole("to_client")
    putting = gevent.spawn(work.put, b"2")
    eventually(lambda: far.publishers.unconfirmed() == 1)
    proxy.reset()
    with pytest.raises(OutcomeUnknown, match="may or may not be there"):
        putting.get(timeout=5)
    with pytest.raises(ConnectionLost, match="no connection to RabbitMQ within"):
        work.put(b"3", timeout=0.3)
    bridging = gevent.spawn(work.put, b"4")
    gevent.sleep(0.2)
    proxy.pass_through()
    bridging.get(timeout=10)
    assert [work.get(5).body for _ in range(3)] == [b"1", b"2", b"4"]


def test_a_put_with_retry_is_sent_again_under_the_same_id(far: Amqp, proxy: TcpProxy) -> None:
    work = far.queue("jobs")
    work.put(b"1")
    proxy.blackhole("to_client")
    putting = gevent.spawn(lambda: work.put(b"2", retry=True, timeout=20))
    eventually(lambda: far.publishers.unconfirmed() == 1)
    gevent.sleep(0.1)
    proxy.drop()
    proxy.pass_through()
    putting.get(timeout=10)
    seen = [work.get(5) for _ in range(3)]
    assert [message.body for message in seen] == [b"1", b"2", b"2"]  # at least once
    assert seen[1].properties.message_id == seen[2].properties.message_id is not None


def test_a_frame_cut_in_the_middle_loses_nothing(far: Amqp, proxy: TcpProxy, jobs: Queue) -> None:
    jobs.put(b"x" * 60_000)
    with far.queue("jobs").consumer(1) as consumer:
        first = consumer.get(5)
        proxy.cut(1000, "to_client")
        first.nack()
        eventually(lambda: far.consuming.connection is None)
        proxy.pass_through()
        assert consumer.get(10).body == b"x" * 60_000


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_publishes_survive_cuts_anywhere(far: Amqp, proxy: TcpProxy, jobs: Queue, direction: str) -> None:
    work = far.queue("jobs")
    confirmed = []
    for number in range(12):
        proxy.cut(number * 13, direction)  # type: ignore[arg-type]
        try:
            work.put(b"%d" % number, timeout=0.3)
            confirmed.append(b"%d" % number)
        except (OutcomeUnknown, ConnectionLost):
            pass
        proxy.pass_through()
        work.put(b"between %d" % number, retry=True)
        confirmed.append(b"between %d" % number)
    seen = set()
    with pytest.raises(queue.Empty):
        while True:
            seen.add(jobs.get(0.2).body)
    assert set(confirmed) <= seen


def test_silence_ends_the_connection_after_two_heartbeats(connect: object, proxy: TcpProxy) -> None:
    far: Amqp = connect(proxy, heartbeat_seconds=1)  # type: ignore[operator]
    work = far.queue("jobs")
    with pytest.raises(queue.Empty):
        work.get(0.01)
    work.put(b"before")
    work.get(5).ack()
    connection = far.consuming.connection
    assert connection is not None
    begun = monotonic()
    proxy.blackhole()
    waiting = gevent.spawn(work.get, 30)
    putting = gevent.spawn(work.put, b"x", timeout=30)
    with pytest.raises(OutcomeUnknown, match="nothing came from RabbitMQ"):
        putting.get(timeout=10)
    assert monotonic() - begun < 3.5
    proxy.drop()
    proxy.pass_through()
    work.put(b"after")
    assert waiting.get(timeout=15).body in (b"before", b"x", b"after")


def test_heartbeats_go_out_while_a_handler_is_busy(connect: object, broker: Amqp) -> None:
    busy: Amqp = connect(heartbeat_seconds=1)  # type: ignore[operator]
    work = busy.queue("jobs")
    work.put(b"x")
    message = work.get(5)
    connection = busy.consuming.connection
    gevent.sleep(3.5)
    assert message.ack()
    assert busy.consuming.connection is connection
    assert busy.consuming.recoveries == 1


def test_exclusive_queues_bindings_and_auto_delete_come_back(far: Amqp, proxy: TcpProxy) -> None:
    events = far.exchange("events", kind="topic", durable=False)
    mine = far.temporary_queue().bind(events, "a.*")
    with mine.consumer() as consumer:
        events.publish("a.b", b"1", mandatory=True)
        assert consumer.get(5).body == b"1"
        proxy.drop()
        eventually(lambda: far.consuming.recoveries == 2 and far.publishing.recoveries == 2)
        events.publish("a.b", b"2", mandatory=True)
        assert consumer.get(10).body == b"2"


def test_a_stream_goes_on_behind_the_last_message_taken(far: Amqp, proxy: TcpProxy) -> None:
    log = far.queue("log", kind="stream")
    log.put_many(b"%d" % number for number in range(10))
    with log.consumer(10, offset="first") as consumer:
        for number in range(3):
            with consumer.get(5) as message:
                assert message.body == b"%d" % number
        proxy.drop()
        eventually(lambda: far.consuming.recoveries == 2)
        assert consumer.get(10).body == b"3"


def test_a_question_under_way_is_unknown_and_a_later_one_is_answered(far: Amqp, proxy: TcpProxy, broker: Amqp) -> None:
    service = broker.queue("echo")
    service.declare()
    asking = gevent.spawn(far.rpc, "echo", b"1", timeout=20)
    with service.get(5):
        proxy.drop()
        with pytest.raises(OutcomeUnknown, match="may or may not have been answered"):
            asking.get(timeout=5)
    again = gevent.spawn(far.rpc, "echo", b"2", timeout=20)
    with service.get(10) as question:
        question.reply(b"answer")
    assert again.get(timeout=10).body == b"answer"


def test_a_commit_under_way_is_unknown(far: Amqp, proxy: TcpProxy, jobs: Queue) -> None:
    jobs.declare()

    def commit() -> None:
        with far.transaction() as work:
            work.publish("", "jobs", b"1")
            proxy.blackhole("to_client")
            gevent.spawn_later(0.2, proxy.drop)

    with pytest.raises(OutcomeUnknown, match="may or may not have been committed"):
        gevent.spawn(commit).get(timeout=5)
    proxy.pass_through()


def test_auto_delete_queues_do_not_rise_after_their_last_consumer(far: Amqp, proxy: TcpProxy) -> None:
    passing = far.queue("passing", auto_delete=True)
    with passing.consumer() as consumer:
        passing.put(b"x")
        consumer.get(5).ack()
    proxy.drop()
    eventually(lambda: far.consuming.recoveries == 2)
    with pytest.raises(ChannelClosed, match="no queue 'passing'"):
        passing.qsize()


def test_a_deleted_queue_ends_its_consumer_and_says_so(broker: Amqp, connect: object, jobs: Queue) -> None:
    other: Amqp = connect()  # type: ignore[operator]
    waiting = gevent.spawn(jobs.get, 20)
    eventually(lambda: broker.consumers)
    eventually(lambda: other.queue("jobs", declare=False).qsize() == 0)
    other.queue("jobs", declare=False).delete()
    with pytest.raises(ConsumerCancelled, match="cancelled the consumer"):
        waiting.get(timeout=10)


def test_serve_goes_on_when_its_queue_was_deleted(broker: Amqp, connect: object, jobs: Queue) -> None:
    seen: list[bytes] = []
    serving = green.spawn(jobs.serve, lambda message: seen.append(message.body))
    jobs.put(b"1")
    eventually(lambda: seen == [b"1"])
    connect().queue("jobs", declare=False).delete()  # type: ignore[operator]
    eventually(lambda: not any(consumer.error is None for consumer in broker.consumers))
    eventually(lambda: broker.consumers and not any(consumer.is_over for consumer in broker.consumers))
    jobs.put(b"2")
    eventually(lambda: seen == [b"1", b"2"])
    serving.kill()


def test_a_channel_error_closes_that_channel_alone(broker: Amqp, jobs: Queue) -> None:
    jobs.put(b"1")
    message = jobs.get(5)
    connection = broker.consuming.connection
    with pytest.raises(ChannelClosed) as caught:
        broker.queue("missing", declare=False).consumer().start()
    assert caught.value.code == 404
    with pytest.raises(ChannelClosed, match="no queue 'missing'"):
        broker.queue("missing", declare=False).qsize()
    assert message.ack()
    assert broker.consuming.connection is connection


def test_a_broker_that_closes_connections_is_come_back_to(broker: Amqp, rabbitmq: PrivateRabbit, jobs: Queue) -> None:
    jobs.put(b"1")
    with jobs.consumer() as consumer:
        assert consumer.get(5).body == b"1"
        rabbitmq.evaluate('[rabbit_networking:close_connection(Pid, "maintenance") || Pid <- rabbit_networking:connections()].')
        assert consumer.get(10).redelivered
        jobs.put(b"2")
        assert consumer.get(5).body == b"2"
    assert broker.consuming.recoveries == 2


def test_an_alarm_blocks_publishers_only_and_shows_in_the_health(broker: Amqp, rabbitmq: PrivateRabbit, jobs: Queue) -> None:
    jobs.put_many([b"1", b"2"])
    rabbitmq.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.000001).")
    try:
        with pytest.raises((ConnectionBlocked, OutcomeUnknown)):
            jobs.put(b"first", timeout=0.5)  # RabbitMQ tells of the alarm when somebody publishes
        connection = broker.publishing.connection
        assert connection is not None
        eventually(lambda: connection.blocked_reason)
        with pytest.raises(ConnectionBlocked, match="takes no messages"):
            jobs.put(b"second", timeout=0.3)
        with green.deadline(0.3), pytest.raises(ConnectionBlocked):
            jobs.put(b"third")
        with pytest.raises(ConnectionBlocked):
            broker.health()
        with jobs.get(5) as message:
            assert message.body == b"1"  # the consuming connection is not held up
        waiting = gevent.spawn(jobs.put, b"fourth", timeout=20)
        connection.bridge_seconds = 0.1
        for _ in range(20):  # of itself a put waits for a short alarm only; wait_seconds is 10
            began = monotonic()
            with pytest.raises(ConnectionBlocked):
                jobs.put(b"fifth")
            assert monotonic() - began < 5
    finally:
        rabbitmq.evaluate('vm_memory_monitor:set_vm_memory_high_watermark({absolute, "2GB"}).')
    waiting.get(timeout=10)
    broker.health()


def test_refused_credentials_are_not_tried_again_and_again(
    amqp_url: str, connect: object, proxy: TcpProxy, rabbitmq: PrivateRabbit
) -> None:
    wrong = amqp_url.replace(amqp_url.split(":")[2].split("@", maxsplit=1)[0], "wrong").replace(str(rabbitmq.port), str(proxy.port))
    client: Amqp = connect(url=wrong)  # type: ignore[operator]
    with pytest.raises(AccessRefused, match="ACCESS_REFUSED"):
        client.publish("", "jobs", b"x")
    with pytest.raises(AccessRefused):
        client.publish("", "jobs", b"x")
    gevent.sleep(0.5)
    assert proxy.accepted == 1


def test_an_unknown_virtual_host_is_refused(amqp_url: str, connect: object) -> None:
    client: Amqp = connect(url=amqp_url + "-missing")  # type: ignore[operator]
    with pytest.raises(AccessRefused, match="not found"):
        client.queue("jobs").get(1)


def test_another_host_is_taken_when_one_is_away(amqp_url: str, connect: object, rabbitmq: PrivateRabbit) -> None:
    here = f"127.0.0.1:{rabbitmq.port}"
    client: Amqp = connect(url=amqp_url.replace(here, f"127.0.0.1:1,{here},127.0.0.1:2"))  # type: ignore[operator]
    for number in range(3):
        client.queue("jobs").put(b"%d" % number)
        client.consuming.connection and client.consuming.connection.drop()


def test_stop_ends_whatever_waits(connect: object, proxy: TcpProxy) -> None:
    far: Amqp = connect(proxy)  # type: ignore[operator]
    work = far.queue("jobs")
    work.put(b"1")
    first = work.get(5)
    waiting = gevent.spawn(work.get)
    proxy.reset()
    publishing = gevent.spawn(far.publish, "", "jobs", b"2")
    gevent.sleep(0.1)
    begun = monotonic()
    far.stop()
    with pytest.raises(ConsumerCancelled):
        waiting.get(timeout=1)
    with pytest.raises((ConnectionLost, OutcomeUnknown)):
        publishing.get(timeout=1)
    assert monotonic() - begun < 3
    assert not first.ack()


def test_a_message_that_is_held_for_too_long_is_taken_back_and_its_late_ack_says_so(
    broker: Amqp, rabbitmq: PrivateRabbit, jobs: Queue
) -> None:
    """RabbitMQ's delivery acknowledgement timeout, 30 minutes by default, ends the channel; the consumer goes on with another."""
    rabbitmq.evaluate("[application:set_env(rabbit, Name, 300) || Name <- [consumer_timeout, channel_tick_interval]].")
    try:
        jobs.put(b"x")
        with jobs.consumer() as consumer:
            late = consumer.get(5)
            again = consumer.get(10)
            assert (again.body, again.redelivered, late.is_stale, late.ack()) == (b"x", True, True, False)
            assert again.ack()
    finally:
        usual = "[{consumer_timeout, 1800000}, {channel_tick_interval, 60000}]"
        rabbitmq.evaluate(f"[application:set_env(rabbit, Name, Value) || {{Name, Value}} <- {usual}].")
    assert broker.consuming.recoveries == 1  # the connection stayed
    assert eventually(lambda: jobs.qsize() == 0)


def test_a_large_message_that_is_cut_in_the_middle_is_unknown_and_the_next_ones_go_on(far: Amqp, proxy: TcpProxy, jobs: Queue) -> None:
    work = far.queue("jobs")
    work.put(b"1")
    proxy.blackhole("to_server")
    putting = gevent.spawn(work.put, bytes(20_000_000))
    transport = far.publishing.get().transport
    eventually(lambda: transport.unsent_pieces_bytes > 0)
    proxy.drop()
    proxy.pass_through()
    with pytest.raises(OutcomeUnknown):
        putting.get(timeout=10)
    work.put(b"2")
    assert [jobs.get(5).body, jobs.get(5).body] == [b"1", b"2"]


def test_a_killed_put_of_a_large_message_leaves_a_whole_one_and_a_channel_that_works(far: Amqp, proxy: TcpProxy, jobs: Queue) -> None:
    work = far.queue("jobs")
    work.put(b"1")
    proxy.blackhole("to_server")
    putting = gevent.spawn(work.put, bytes(20_000_000))
    waiting = gevent.spawn(work.put, bytes(3_000_000))  # for the first one's pieces
    transport = far.publishing.get().transport
    eventually(lambda: transport.unsent_pieces_bytes > 0)
    gevent.killall([putting, waiting])
    proxy.pass_through()
    work.put(b"2")
    assert [len(jobs.get(20).body) for _ in range(3)] == [1, 20_000_000, 1]
