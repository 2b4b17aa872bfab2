"""What a broker does with streams, told by one suite to two."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from wire_client import Closed, Wire

from nucleon.amqp import Amqp
from nucleon.amqp.codec import methods

Connect = Callable[[], Wire]


def log_of(wire: Wire, count: int = 5) -> None:
    """Make a stream with so many messages."""
    wire.queue("log", x_queue_type="stream")
    wire.confirmed()
    for number in range(count):
        assert wire.put("log", b"%d" % number)


def read(wire: Wire, count: int) -> list[tuple[int, bytes]]:
    """Return offset and body of the next deliveries."""
    found = []
    for _ in range(count):
        assert not wire.get(methods.BasicDeliver).redelivered
        found.append((wire.headers["x-stream-offset"], wire.body))
    return found


MOMENT = datetime.now(UTC)


@pytest.mark.parametrize(
    ("offset", "first"),
    [("first", 0), ("last", 4), (3, 3), (-1, 0), (MOMENT - timedelta(days=1), 0), ("next", 5), (99, 5), (None, 5)],
    ids=["first", "last", "number", "below", "time", "next", "beyond", "none"],
)
def test_a_stream_is_read_from_its_offset_on(wire: Wire, offset: Any, first: int) -> None:
    log_of(wire)
    wire.consume("log", prefetch=10, **({} if offset is None else {"x_stream_offset": offset}))
    assert read(wire, 5 - first) == [(number, b"%d" % number) for number in range(first, 5)]
    assert wire.nothing_comes(methods.BasicDeliver)
    if offset in ("next", None):
        wire.put("log", b"5")
        assert read(wire, 1) == [(5, b"5")]


def test_everybody_reads_everything_and_prefetch_bounds_it(connect: Connect) -> None:
    one, other = connect(), connect()
    log_of(one)
    for wire in (one, other):
        wire.consume("log", prefetch=2, x_stream_offset="first")
        assert read(wire, 2) == [(0, b"0"), (1, b"1")]
        assert wire.nothing_comes(methods.BasicDeliver)
        wire.send(methods.BasicAck(2, True))
        assert read(wire, 2) == [(2, b"2"), (3, b"3")]


def test_what_a_lost_connection_held_is_there_for_the_next_and_is_not_redelivered(connect: Connect) -> None:
    one, other = connect(), connect()
    log_of(one)
    other.consume("log", prefetch=2, x_stream_offset=1)
    assert read(other, 2) == [(1, b"1"), (2, b"2")]
    other.close()
    one.consume("log", prefetch=9, x_stream_offset=1)
    assert read(one, 4) == [(number, b"%d" % number) for number in range(1, 5)]


@pytest.mark.parametrize(
    ("declared", "what"),
    [
        ({"durable": False}, "406 .*invalid property 'non-durable' for queue 'log2'"),
        ({"durable": True, "exclusive": True}, "406 .*invalid property 'exclusive-owner' for queue 'log2'"),
        ({"durable": True, "auto_delete": True}, "406 .*invalid property 'auto-delete' for queue 'log2'"),
        ({"durable": True, "x-message-ttl": 9}, "406 .*invalid arg 'x-message-ttl' for queue 'log2' .* of queue type rabbit_stream_queue"),
        ({"durable": True, "x-expires": 9}, "406 .*invalid arg 'x-expires' for queue 'log2' .* of queue type rabbit_stream_queue"),
    ],
)
def test_a_stream_is_durable_and_has_no_limits_of_a_queue(wire: Wire, declared: dict[str, Any], what: str) -> None:
    table = {"x-queue-type": "stream", **{name: value for name, value in declared.items() if name.startswith("x-")}}
    facts = {name: value for name, value in declared.items() if not name.startswith("x-")}
    with pytest.raises(Closed, match=what) as caught:
        wire.ask(methods.QueueDeclare(0, "log2", **facts, arguments=table), methods.QueueDeclareOk)
    assert not caught.value.is_connection


@pytest.mark.parametrize(
    ("method", "what"),
    [
        (methods.BasicGet(0, "log"), "basic.get not supported by stream queues queue 'log'"),
        (methods.QueuePurge(0, "log"), "queue.purge not supported by stream queues queue 'log'"),
        (methods.BasicNack(1, False, True), "basic.nack and basic.reject not supported by stream queues queue 'log'"),
        (methods.BasicReject(1, False), "basic.nack and basic.reject not supported by stream queues queue 'log'"),
    ],
)
def test_nothing_is_taken_out_of_a_stream(connect: Connect, method: Any, what: str) -> None:
    keeper, wire = connect(), connect()
    log_of(keeper, 1)
    wire.consume("log", prefetch=1, x_stream_offset="first")
    assert read(wire, 1) == [(0, b"0")]
    wire.send(method)
    with pytest.raises(Closed, match=f"540 NOT_IMPLEMENTED - {what}") as caught:
        wire.get(methods.BasicGetOk)
    assert caught.value.is_connection


def test_who_reads_a_stream_acknowledges_and_has_a_bound(connect: Connect) -> None:
    keeper, unbounded, silent = connect(), connect(), connect()
    log_of(keeper, 1)
    with pytest.raises(Closed, match=r"406 .*consumer prefetch count is not set for 'queue 'log'"):
        unbounded.consume("log")
    with pytest.raises(Closed, match=r"540 .*automatic acknowledgement not supported by stream queues queue 'log'"):
        silent.consume("log", prefetch=1, no_ack=True)


def test_a_stream_counts_nothing_as_waiting(wire: Wire) -> None:
    log_of(wire, 3)
    assert wire.count("log") == 0
    assert wire.ask(methods.QueueDelete(0, "log"), methods.QueueDeleteOk).message_count == 0


def test_the_client_reads_a_stream_and_goes_on_behind_what_it_has_taken(url: str) -> None:
    with Amqp(url=url, retry_minimum_seconds=0.01) as broker:
        log = broker.queue("log", kind="stream")
        try:
            log.put_many(b"%d" % number for number in range(6))
            with log.consumer(2, offset="first") as consumer:
                for number in range(3):
                    with consumer.get(5) as message:
                        assert message.body == b"%d" % number
                lost = broker.consuming.get().transport
                lost._end(ConnectionResetError("by the test"))
                assert [consumer.get(5).body for _ in range(2)] == [b"3", b"4"]
        finally:
            log.delete()
