"""Remote queues used like local ones, against a real RabbitMQ."""

import queue
from datetime import UTC, datetime

import gevent
import gevent.event
import pytest

from nucleon import Model, green, hooks
from nucleon.amqp import (
    Amqp,
    ChannelClosed,
    ConnectionLost,
    ConsumerCancelled,
    OutcomeUnknown,
    Queue,
    Rejected,
)
from nucleon.amqp.codec import methods
from nucleon.errors import DeadlineExceeded, SetupError, Unavailable
from nucleon.testing import eventually


class Order(Model):
    id: int


def test_what_was_put_is_got_in_order(jobs: Queue) -> None:
    for body in (b"one", "zwei", {"three": 3}, Order(id=4)):
        jobs.put(body)
    seen = [jobs.get(5) for _ in range(4)]
    assert [message.body for message in seen] == [b"one", b"zwei", b'{"three":3}', b'{"id":4}']
    assert [message.properties.content_type for message in seen] == [None, "text/plain; charset=utf-8", *["application/json"] * 2]
    assert all(message.ack() for message in seen)
    assert not seen[0].ack()  # once is enough


def test_empty_is_the_standard_librarys(jobs: Queue) -> None:
    with pytest.raises(queue.Empty):
        jobs.get(0.05)
    with pytest.raises(queue.Empty):
        jobs.get_nowait()


def test_the_deadline_ends_a_get(jobs: Queue) -> None:
    with green.deadline(0.3), pytest.raises(DeadlineExceeded):
        jobs.get(30)
    with green.deadline(0.3), pytest.raises(DeadlineExceeded):
        jobs.get()


def test_get_nowait_loses_nothing(jobs: Queue) -> None:
    jobs.put_many(b"%d" % number for number in range(20))
    got = [jobs.get_nowait().body for _ in range(20)]
    assert got == [b"%d" % number for number in range(20)]
    with pytest.raises(queue.Empty):
        jobs.get_nowait()


def test_properties_and_headers_travel(jobs: Queue) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    headers = {"a": [1, {"b": None}]}
    jobs.put(b"x", headers=headers, priority=4, message_id="m", correlation_id="c", type="t", app_id="a", timestamp=moment, ttl=60)
    properties = jobs.get(5).properties
    assert (properties.priority, properties.message_id, properties.correlation_id, properties.type) == (4, "m", "c", "t")
    assert (properties.headers, properties.timestamp, properties.expiration) == ({"a": [1, {"b": None}]}, moment, "60000")


def test_the_request_id_travels_along(jobs: Queue) -> None:
    token = hooks.request_id.set("r-1")
    try:
        jobs.put(b"x", headers={"a": 1})
    finally:
        hooks.request_id.reset(token)
    assert jobs.get(5).headers == {"a": 1, "x-request-id": "r-1"}


def test_a_message_is_acknowledged_when_its_block_ends_well(broker: Amqp, jobs: Queue) -> None:
    jobs.put(b"x")
    with jobs.get(5) as message:
        assert message.body == b"x"
    jobs.release()
    assert eventually(lambda: jobs.qsize() == 0)


def test_a_message_whose_block_raises_goes_to_the_dead_letter_queue(broker: Amqp) -> None:
    work = broker.queue("work", dead_letter="work.dead")
    work.put(b"bad")
    with pytest.raises(RuntimeError), work.get(5):
        raise RuntimeError("no")
    dead = broker.queue("work.dead").get(5)
    assert dead.body == b"bad"
    assert dead.headers["x-death"][0]["queue"] == "work"


def test_nack_gives_a_message_back(jobs: Queue) -> None:
    jobs.put(b"x")
    assert jobs.get(5).nack()
    again = jobs.get(5)
    assert again.redelivered
    assert again.reject()
    with pytest.raises(queue.Empty):
        jobs.get(0.1)


def test_a_delayed_message_comes_later(jobs: Queue) -> None:
    jobs.put(b"late", delay=0.3)
    with pytest.raises(queue.Empty):
        jobs.get(0.1)
    assert jobs.get(5).body == b"late"


def test_a_message_is_delayed_in_a_quorum_queue_for_a_quorum_queue(broker: Amqp) -> None:
    safe = broker.queue("safe", kind="quorum")
    safe.put(b"late", delay=0.3)
    with pytest.raises(ConnectionLost, match="does not support global qos"):  # what quorum queues alone refuse
        channel = broker.channel(consuming=True)
        channel.call(methods.BasicQos(0, 1, shared=True))
        channel.call(methods.BasicConsume(queue="safe.delay.300"))
    assert safe.get(5).body == b"late"


def test_retry_puts_a_message_off_and_counts(jobs: Queue) -> None:
    jobs.put(b"x", headers={"mine": 1}, message_id="m")
    jobs.get(5).retry(delay=0.05)
    again = jobs.get(5)
    assert (again.attempts, again.headers["mine"], again.properties.message_id) == (1, 1, "m")
    again.retry()
    assert jobs.get(5).attempts == 2


def test_priorities_and_time_to_live(broker: Amqp) -> None:
    first = broker.queue("by-priority", max_priority=5)
    for priority in (1, 5, 3):
        first.put(b"%d" % priority, priority=priority)
    assert [first.get_nowait().body for _ in range(3)] == [b"5", b"3", b"1"]
    first.put(b"gone", ttl=0.0)
    with pytest.raises(queue.Empty):
        first.get(0.1)


def test_a_full_queue_is_queue_full(broker: Amqp) -> None:
    small = broker.queue("small", max_length=1, overflow="reject-publish")
    small.put(b"1")
    with pytest.raises(queue.Full) as caught:
        for _ in range(5):
            small.put(b"2")
    assert isinstance(caught.value, (Rejected, Unavailable))


def test_quorum_queues_count_deliveries_and_give_up(broker: Amqp) -> None:
    poison = broker.queue("poison", kind="quorum", delivery_limit=2, dead_letter="poison.dead")
    poison.put(b"x")
    for attempts in range(3):
        message = poison.get(10)
        assert message.attempts == attempts
        message.nack()
    assert broker.queue("poison.dead", kind="quorum").get(10).body == b"x"


def test_streams_are_read_from_any_offset(broker: Amqp) -> None:
    log = broker.queue("log", kind="stream")
    log.put_many(b"%d" % number for number in range(10))
    for offset, first in (("first", b"0"), (7, b"7"), (datetime(2020, 1, 1, tzinfo=UTC), b"0")):
        with log.consumer(5, offset=offset) as consumer:
            message = consumer.get(5)
            assert message.body == first
            message.ack()
    with pytest.raises(ValueError, match="no stream"):
        broker.queue("jobs").consumer(offset=1)


def test_an_iteration_ends_with_its_consumer(jobs: Queue) -> None:
    jobs.put_many([b"1", b"2", b"3"])
    seen = []
    with jobs.consumer(1) as consumer:
        for message in consumer:
            seen.append(message.body)
            message.ack()
            if len(seen) == 3:
                consumer.close()
    assert seen == [b"1", b"2", b"3"]
    with pytest.raises(ConsumerCancelled):
        consumer.get(1)


def test_leaving_a_consumer_gives_back_what_nobody_took(jobs: Queue) -> None:
    jobs.put_many(b"%d" % number for number in range(10))
    with jobs.consumer(10) as consumer:
        taken = consumer.get(5)
        eventually(lambda: consumer.delivered == 10)
    assert eventually(lambda: jobs.qsize() == 9)
    assert taken.ack()  # what was taken may still be settled
    assert eventually(lambda: consumer._channel is not None and not consumer._channel.is_open)
    assert sorted(jobs.get(5).body for _ in range(9)) == [b"%d" % number for number in range(1, 10)]


def test_prefetch_is_the_back_pressure(jobs: Queue) -> None:
    jobs.put_many(b"%d" % number for number in range(30))
    with jobs.consumer(5) as consumer:
        first = consumer.get(5)
        eventually(lambda: consumer.delivered == 5)
        green.sleep(0.1)
        assert consumer.delivered == 5
        first.ack()
        eventually(lambda: consumer.delivered == 6)


def test_without_acknowledgement_the_bytes_are_bounded(jobs: Queue) -> None:
    with pytest.raises(ValueError, match="limit_bytes"):
        jobs.consumer(no_ack=True)
    jobs.put_many([bytes(10_000)] * 300)
    with jobs.consumer(no_ack=True, limit_bytes=50_000) as consumer:
        eventually(lambda: consumer.delivered > 4)
        green.sleep(0.05)
        assert consumer.delivered < 300
        for _ in range(300):
            assert len(consumer.get(5).body) == 10_000


def test_serve_runs_many_workers_until_it_is_killed(jobs: Queue) -> None:
    seen: list[bytes] = []
    running = finished = 0

    def work(message: object) -> None:
        nonlocal running, finished
        running += 1
        green.sleep(0.2)
        finished += 1
        seen.append(message.body)  # type: ignore[attr-defined]

    jobs.put_many(b"%d" % number for number in range(10))
    serving = green.spawn(jobs.serve, work, workers=10)
    eventually(lambda: running == 10)
    serving.kill()
    assert finished == 10  # those who worked have finished and acknowledged
    assert sorted(seen) == [b"%d" % number for number in range(10)]
    assert jobs.qsize() == 0


def test_a_function_that_does_not_end_does_not_keep_a_killed_serve_and_its_message_comes_back(broker: Amqp) -> None:
    jobs = broker.queue("stuck")
    taken: list[bytes] = []
    never = gevent.event.Event()

    def work(message: object) -> None:
        taken.append(message.body)  # type: ignore[attr-defined]
        never.wait()

    jobs.put(b"again")
    serving = green.spawn(jobs.serve, work, finish_seconds=0.05)
    eventually(lambda: taken)
    serving.kill(timeout=5)
    assert serving.dead
    message = jobs.get(5)
    assert (message.body, message.redelivered) == (b"again", True)
    message.ack()


def test_serve_logs_what_a_function_raises_and_goes_on(broker: Amqp, caplog: pytest.LogCaptureFixture) -> None:
    work = broker.queue("work", dead_letter="work.dead")
    work.put_many([b"bad", b"good"])
    seen = []

    def function(message: object) -> None:
        body = message.body  # type: ignore[attr-defined]
        if body == b"bad":
            raise RuntimeError("no")
        seen.append(body)

    serving = green.spawn(work.serve, function)
    eventually(lambda: seen == [b"good"])
    serving.kill()
    assert broker.queue("work.dead").get(5).body == b"bad"
    assert "RuntimeError: no" in caplog.text


def test_typed_queues_decode_and_keep_bad_bodies_out(broker: Amqp) -> None:
    work = broker.queue("orders", dead_letter="orders.dead")
    orders = work.of(Order)
    orders.put(Order(id=1))
    work.put(b'{"id": "x"}', headers={"mine": 1})
    work.put(b"no json")
    orders.put(Order(id=2))
    for number in (1, 2):
        with orders.get(5) as order:
            assert order.value == Order(id=number)
    assert orders.refused == 2
    dead = broker.queue("orders.dead")
    reasons = [dead.get(5).headers for _ in range(2)]
    assert "Expected `int`" in reasons[0]["x-nucleon-reason"] and reasons[0]["mine"] == 1
    assert "malformed" in reasons[1]["x-nucleon-reason"] and reasons[1]["x-nucleon-queue"] == "orders"
    with pytest.raises(TypeError):
        orders.put({"id": "x"})  # type: ignore[arg-type]


def test_purge_and_counts(jobs: Queue) -> None:
    jobs.put_many(b"%d" % number for number in range(7))
    assert eventually(lambda: jobs.qsize() == 7)
    assert jobs.purge() == 7
    assert jobs.delete() == 0


def test_large_bodies_come_whole(jobs: Queue) -> None:
    for size in (0, 1, 131_063, 131_064, 131_065, 1_000_003):
        body = bytes(range(256)) * (size // 256 + 1)
        jobs.put(body[:size])
        assert jobs.get(10).body == body[:size]


def test_a_body_above_the_limit_stays_in_its_queue(connect: object) -> None:
    broker = connect(body_limit_bytes=1000)  # type: ignore[operator]
    work = broker.queue("work")
    work.put(bytes(1001))
    with pytest.raises(ChannelClosed, match="body_limit_bytes is 1000"):
        work.get(5)
    assert eventually(lambda: work.qsize() == 1)


def test_unfit_properties_are_an_error_of_the_caller_and_hurt_nobody(jobs: Queue) -> None:
    jobs.put(b"1")
    for properties in ({"headers": {"k" * 300: 1}}, {"headers": {"k": "v" * 200_000}}, {"timestamp": datetime(2020, 1, 1)}, {"ttl": -1}):
        with pytest.raises(ValueError):
            jobs.put(b"x", **properties)  # type: ignore[arg-type]
    jobs.put(b"2")
    assert [jobs.get(5).body, jobs.get(5).body] == [b"1", b"2"]


def test_many_greenlets_share_one_channel(jobs: Queue) -> None:
    def put(worker: int) -> None:
        for number in range(50):
            jobs.put(b"%d.%d" % (worker, number))

    gevent.joinall([gevent.spawn(put, worker) for worker in range(8)], raise_error=True)
    seen = {jobs.get(5).body for _ in range(400)} if jobs.prefetch >= 400 else set()
    while len(seen) < 400:
        with jobs.get(5) as message:
            seen.add(message.body)
    assert seen == {b"%d.%d" % (worker, number) for worker in range(8) for number in range(50)}


def test_drain_waits_until_all_is_done(broker: Amqp, jobs: Queue) -> None:
    seen: list[object] = []
    jobs.put_many(b"%d" % number for number in range(20))
    serving = green.spawn(jobs.serve, seen.append, workers=3)
    eventually(lambda: broker.consumers)
    assert broker.drain(10)
    assert len(seen) == 20
    serving.kill()


def test_health_and_repr_tell_the_state(broker: Amqp, jobs: Queue) -> None:
    broker.health()
    jobs.put(b"x")
    assert "open" in repr(broker) and "0 unconfirmed" in repr(broker)
    assert repr(jobs) == "<Queue 'jobs' classic>"
    message = jobs.get(5)
    assert repr(message) == "<Message 1 to '' with key 'jobs', 1 bytes, open>"
    password = broker.settings.url.reveal().split(":")[2].split("@")[0] if broker.settings.url else ""
    assert password not in repr(broker)


def test_a_client_without_a_server_says_what_is_missing() -> None:
    with pytest.raises(SetupError, match="set AMQP_URL, or url in the settings section \\[amqp\\]"):
        Amqp().publish("", "key", b"x")
    with pytest.raises(SetupError, match="no setting colour"):
        Amqp(colour="red")


def test_a_confirm_that_does_not_come_in_time_is_unknown(connect: object, proxy: object) -> None:
    broker = connect(proxy)  # type: ignore[operator]
    jobs = broker.queue("jobs")
    jobs.put(b"1")
    proxy.blackhole("to_client")  # type: ignore[attr-defined]
    with pytest.raises(OutcomeUnknown, match=r"within 0\.2 s"):
        jobs.put(b"2", timeout=0.2)
    with green.deadline(0.2), pytest.raises(DeadlineExceeded):
        jobs.put(b"3")
    proxy.pass_through()  # type: ignore[attr-defined]
    jobs.put(b"4")
    assert [jobs.get(5).body for _ in range(4)] == [b"1", b"2", b"3", b"4"]
