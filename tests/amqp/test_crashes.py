"""RabbitMQ is killed, or stopped and started, under publishers and consumers: on a node of its own, with few hosts to bring back."""

import sys
from collections.abc import Iterator

import gevent
import pytest
from private_servers import PrivateRabbit

from nucleon import green
from nucleon.amqp import Amqp, ConnectionLost, Message, OutcomeUnknown, Queue
from nucleon.testing import eventually


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateRabbit]:
    server = PrivateRabbit(say=lambda line: print(line, file=sys.stderr))
    server.start()
    yield server
    server.close()


@pytest.fixture
def broker(node: PrivateRabbit) -> Iterator[Amqp]:
    node.start()
    with Amqp(url=node.url, retry_minimum_seconds=0.05, retry_maximum_seconds=0.5) as client:
        yield client


def test_kill_9_under_confirming_publishers_loses_no_confirmed_message(broker: Amqp, node: PrivateRabbit) -> None:
    queues = [broker.queue("classic"), broker.queue("quorum", kind="quorum")]
    confirmed: dict[str, set[bytes]] = {"classic": set(), "quorum": set()}
    unknown = 0
    is_over = False

    def publish(target: Queue, worker: int) -> None:
        nonlocal unknown
        number = 0
        while not is_over:
            body = b"%d.%d" % (worker, number)
            number += 1
            try:
                target.put(body, timeout=15)
                confirmed[target.name].add(body)
            except (OutcomeUnknown, ConnectionLost):
                unknown += 1

    for target in queues:
        target.declare()
    # RabbitMQ 3.10 keeps the names of new quorum queues in a table that it writes after minutes: a crash before leaves them dead
    node.sync()
    publishers = [gevent.spawn(publish, target, worker) for target in queues for worker in range(4)]
    gevent.sleep(0.7)
    node.kill()
    gevent.spawn(node.start).join()
    eventually(lambda: broker.publishing.recoveries == 2, within_seconds=30)
    gevent.sleep(0.3)
    is_over = True
    gevent.joinall(publishers, timeout=20, raise_error=True)
    assert min(map(len, confirmed.values())) > 10 and unknown
    for target in queues:
        seen: set[bytes] = set()

        def take(message: Message, seen: set[bytes] = seen) -> None:
            seen.add(message.body)

        serving = green.spawn(target.serve, take, workers=4)
        eventually(lambda target=target, seen=seen: confirmed[target.name] <= seen, within_seconds=20)  # type: ignore[misc]
        serving.kill()


def test_a_restart_brings_everything_back(broker: Amqp, node: PrivateRabbit) -> None:
    durable = broker.queue("durable").bind(broker.exchange("news", kind="topic"), "#")
    mine = broker.temporary_queue().bind("news", "a")
    with durable.consumer() as consumer, mine.consumer() as private:
        durable.put(b"kept")
        first = consumer.get(5)
        node.evaluate("rabbit:stop().")  # as rabbitmqctl stop_app, start_app
        node.evaluate("rabbit:start().")
        again = consumer.get(20)
        assert (first.body, again.body, again.redelivered) == (b"kept", b"kept", True)
        again.ack()
        broker.publish("news", "a", b"x", mandatory=True, retry=True)
        assert private.get(10).body == consumer.get(10).body == b"x"
