"""What the fake broker has and RabbitMQ has not: trouble on request, a clock that can be moved on, a look inside."""

from collections.abc import Iterator
from time import monotonic

import pytest
from wire_client import Closed, Wire

from nucleon import green
from nucleon.amqp.codec import methods
from nucleon.testing import FakeBroker, eventually
from nucleon.testing.broker.refusal import Refusal


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker() as broker:
        yield broker


@pytest.fixture
def wire(broker: FakeBroker) -> Iterator[Wire]:
    with Wire(broker.url) as wire:
        wire.queue("q")
        wire.confirmed()
        yield wire


def test_a_lost_confirm_does_not_come_and_the_message_is_there(broker: FakeBroker, wire: Wire) -> None:
    broker.faults.lose(methods.BasicAck)
    wire.publish("", "q", b"x")
    assert wire.nothing_comes(methods.BasicAck)
    assert wire.put("q", b"y")
    assert len(broker.queue("q")) == 2


def test_an_ignored_publish_is_as_if_never_sent(broker: FakeBroker, wire: Wire) -> None:
    broker.faults.ignore(methods.BasicPublish, times=2)
    for body in (b"1", b"2", b"3"):
        wire.publish("", "q", body)
    wire.get(methods.BasicAck)
    assert [message.body for message in broker.queue("q").ready] == [b"3"]


def test_a_connection_is_cut_before_or_after_the_message_is_taken(broker: FakeBroker) -> None:
    for order, count in ((broker.faults.cut_at, 0), (broker.faults.cut_after, 1)):
        with Wire(broker.url) as wire:
            wire.queue("q")
            order(methods.BasicPublish)
            wire.publish("", "q", b"x")
            with pytest.raises(ConnectionResetError):
                wire.get(methods.BasicAck)
        assert len(broker.queue("q")) == count


def test_a_connection_or_a_channel_is_closed_on_request(broker: FakeBroker, wire: Wire) -> None:
    broker.faults.close_channel_at(methods.QueueDeclare, 406, "PRECONDITION_FAILED - timeout on consumer acknowledgement")
    with pytest.raises(Closed, match=r"406 .* timeout"):
        wire.count("q")
    wire.open()
    broker.faults.close_connection_at(methods.QueueDeclare)
    with pytest.raises(Closed, match="320 CONNECTION_FORCED"):
        wire.count("q")


def test_a_delayed_answer_comes_late_and_what_is_behind_it_too(broker: FakeBroker, wire: Wire) -> None:
    broker.faults.delay(methods.BasicAck, 0.15)
    before = monotonic()
    wire.publish("", "q", b"x")
    assert wire.count("q") == 1
    assert monotonic() - before >= 0.15


def test_an_operator_closes_every_connection(broker: FakeBroker, wire: Wire) -> None:
    broker.close_connections()
    with pytest.raises(Closed, match="320 CONNECTION_FORCED"):
        wire.get(methods.BasicAck)
    eventually(lambda: not broker.sessions)


def test_an_alarm_blocks_publishers_and_ends(broker: FakeBroker, wire: Wire) -> None:
    with Wire(broker.url) as consuming:
        wire.put("q", b"1")
        broker.block("low on disk")
        assert wire.get(methods.ConnectionBlocked, 0).reason == "low on disk"
        wire.publish("", "q", b"2")
        assert wire.nothing_comes(methods.BasicAck)
        assert consuming.take("q") == b"1"
        assert consuming.nothing_comes(methods.ConnectionBlocked)
        broker.unblock()
        wire.get(methods.ConnectionUnblocked, 0)
        wire.get(methods.BasicAck)


def test_waiting_is_skipped(broker: FakeBroker, wire: Wire) -> None:
    wire.queue("wait", x_message_ttl=3_600_000, x_dead_letter_exchange="", x_dead_letter_routing_key="q")
    assert not broker.skip_waiting()
    wire.put("wait", b"x")
    assert broker.skip_waiting()
    assert (len(broker.queue("wait")), len(broker.queue("q"))) == (0, 1)


def test_quiet_means_that_consumers_have_settled_everything(broker: FakeBroker, wire: Wire) -> None:
    wire.put("q", b"x")
    assert broker.is_quiet()  # nobody consumes
    wire.consume("q")
    tag, _body = wire.delivered()
    assert not broker.is_quiet()
    wire.send(methods.BasicAck(tag))
    eventually(broker.is_quiet)


def test_a_stopped_broker_starts_empty_at_the_same_address(broker: FakeBroker, wire: Wire) -> None:
    url = broker.url
    broker.stop()
    with pytest.raises(OSError):
        wire.count("q")
    with pytest.raises(OSError):
        Wire(url)
    broker.start()
    assert broker.url == url
    with pytest.raises(Refusal, match="no queue 'q'"):
        broker.queue("q")


def test_heartbeats_are_sent_when_they_are_agreed(broker: FakeBroker, wire: Wire) -> None:
    wire.send(methods.ConnectionTuneOk(10, 8192, 1), 0)

    def one_came() -> bool:
        wire.count("q")
        return wire.reader.heartbeats > 0

    eventually(one_came)


def test_a_client_that_does_not_read_is_not_sent_without_end(broker: FakeBroker, wire: Wire) -> None:
    body = b"x" * 100_000
    for _ in range(200):
        wire.put("q", body)
    wire.consume("q", no_ack=True)
    green.sleep(0.05)
    assert len(broker.queue("q")) > 50
    for _ in range(200):
        wire.delivered()
    assert len(broker.queue("q")) == 0
