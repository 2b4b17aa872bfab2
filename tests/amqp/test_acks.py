"""Acknowledgements of one turn of the loop go out together, and take no message that nobody acknowledged."""

import struct
from queue import Empty

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nucleon import green
from nucleon.amqp import Amqp, Queue
from nucleon.amqp.acks import Acks
from nucleon.testing import eventually


class Unacknowledged:
    """What RabbitMQ keeps for a channel: the tags of open deliveries; an unknown tag closes the channel."""

    def __init__(self) -> None:
        self.open: list[int] = []

    def read(self, frames: bytes) -> None:
        for kind, channel, size, number, tag, is_multiple, end in struct.iter_unpack(">BHIIQBB", frames):
            assert (kind, channel, size, number, end) == (1, 7, 13, 60 << 16 | 80, 0xCE)
            assert tag in self.open
            self.open = [one for one in self.open if (one > tag if is_multiple else one != tag)]


STEPS = st.lists(st.tuples(st.sampled_from(["deliver", "deliver", "ack", "ack", "nack", "turn"]), st.integers(0, 30)), max_size=60)


@given(STEPS)
def test_rabbitmq_is_told_of_what_was_acknowledged_and_of_nothing_else(steps: list[tuple[str, int]]) -> None:
    acks, server, mine, last = Acks(7), Unacknowledged(), list[int](), 0
    for what, which in steps:
        if what == "deliver":
            last += 1
            acks.delivered(last)
            server.open.append(last)
            mine.append(last)
        elif what == "turn":
            server.read(acks.collected())
            assert server.open == mine
        elif mine:
            tag = mine.pop(which % len(mine))
            if what == "ack":
                acks.add(tag)
            else:  # sent at once, which may be before the acknowledgements of this turn
                acks.forget(tag)
                server.open.remove(tag)
    server.read(acks.collected())
    assert server.open == mine


def test_many_acknowledgements_take_one_frame() -> None:
    acks = Acks(7)
    for tag in range(1, 101):
        acks.delivered(tag)
    counts = [acks.add(tag) for tag in range(100, 0, -1)]
    assert counts == list(range(1, 101))
    assert len(acks.collected()) == 21
    assert acks.collected() == b""


def test_an_older_message_that_is_still_open_stays_open(broker: Amqp, jobs: Queue) -> None:
    jobs.put_many(b"%d" % number for number in range(60))
    with jobs.consumer(60) as consumer:
        taken = [consumer.get(5) for _ in range(60)]
        for message in [*taken[40:], *taken[:20]]:  # 20 to 39 stay; all of it in one turn
            message.ack()
        green.sleep(0.01)
        for message in taken[30:40]:
            message.ack()
        taken[20].nack()
        assert consumer.get(5).body == b"20"
    broker.stop()  # gives back what is open: 20 to 29
    broker.start()
    assert eventually(lambda: jobs.qsize() == 10)
    assert sorted(int(jobs.get(5).body) for _ in range(10)) == list(range(20, 30))
    with pytest.raises(Empty):
        jobs.get(0.1)


def test_an_acknowledgement_goes_out_before_the_channel_or_the_connection_is_closed(broker: Amqp, jobs: Queue) -> None:
    jobs.put_many([b"x"] * 20)
    with jobs.consumer(20) as consumer:
        for _ in range(10):
            consumer.get(5).ack()
        # the block ends in the same turn
    assert eventually(lambda: jobs.qsize() == 10)
    for _ in range(5):
        jobs.get(5).ack()
    broker.stop()
    broker.start()
    assert eventually(lambda: jobs.qsize() == 5)
