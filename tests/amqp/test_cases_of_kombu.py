"""The cases of kombu's integration tests for RabbitMQ (t/integration/test_py_amqp.py), written anew for this client."""

import pickle
import queue
import socket
from collections.abc import Callable

import gevent
import pytest
from private_servers import PrivateRabbit

from nucleon.amqp import Amqp, ChannelClosed, ConnectionLost
from nucleon.testing import TcpProxy, eventually

Connect = Callable[..., Amqp]


def test_connect_and_close(broker: Amqp) -> None:
    broker.health()
    broker.stop()


def test_a_failed_connection_is_an_error_and_calls_nothing(connect: Connect) -> None:
    with socket.socket() as unavailable:  # bound and not listening: nobody else can take the port
        unavailable.bind(("127.0.0.1", 0))
        client = connect(url=f"amqp://127.0.0.1:{unavailable.getsockname()[1]}", wait_seconds=0.3)
        with pytest.raises(ConnectionLost, match="Connection refused"):
            client.queue("test").put(b"x")
        with pytest.raises(ConnectionLost):
            client.queue("test").get(0.1)
        client.stop()


def test_publish_and_consume_a_foreign_content_type(broker: Amqp) -> None:
    test = broker.queue("test")
    test.put(pickle.dumps({"hello": "world"}), content_type="application/x-python-serialize", content_encoding="binary")
    with test.consumer() as consumer, consumer.get(5) as message:
        assert message.properties.content_type == "application/x-python-serialize"
        assert (message.exchange, message.routing_key) == ("", "test")
        assert pickle.loads(message.body) == {"hello": "world"}


def test_a_simple_queue_and_a_simple_buffer(broker: Amqp) -> None:
    simple = broker.queue("simple")
    simple.put({"Hello": "World"}, headers={"k1": "v1"})
    message = simple.get(5)
    assert (message.json(), message.properties.content_type, message.headers) == ({"Hello": "World"}, "application/json", {"k1": "v1"})
    message.ack()
    buffer = broker.temporary_queue()
    with buffer.consumer(no_ack=True, limit_bytes=100_000) as unacknowledged:
        buffer.put({"Hello": "World"})
        assert unacknowledged.get(5).json() == {"Hello": "World"}


def test_messages_and_queues_expire(broker: Amqp) -> None:
    for target, ttl in ((broker.queue("by-message"), 0.05), (broker.queue("by-queue", message_ttl=0.05), None)):
        target.put(b"x", ttl=ttl)
        eventually(lambda target=target: target.qsize() == 0)  # type: ignore[misc]
    broker.queue("short", expires=0.2).declare()
    gevent.sleep(0.3)  # asking would keep it alive
    with pytest.raises(ChannelClosed, match="404"):
        eventually(lambda: broker.queue("short", declare=False).qsize() < 0, within_seconds=3)


@pytest.mark.parametrize("priorities", [[3, 6, 1], [5, 5, 5], [0, 9]])
def test_priorities_come_first_and_equals_in_order(broker: Amqp, priorities: list[int]) -> None:
    ranked = broker.queue("ranked", max_priority=10)
    for number, priority in enumerate(priorities):
        ranked.put({"n": number}, priority=priority)
    seen = [ranked.get_nowait().json()["n"] for _ in priorities]
    assert seen == sorted(range(len(priorities)), key=lambda number: (-priorities[number], number))


def test_failover_takes_the_host_that_is_there(connect: Connect, amqp_url: str, rabbitmq: PrivateRabbit) -> None:
    here = f"127.0.0.1:{rabbitmq.port}"
    client = connect(url=amqp_url.replace(here, f"127.0.0.1:1,{here}"))
    client.queue("test").put(b"x")
    assert client.queue("test").get(5).body == b"x"


def test_a_client_is_not_poisoned_by_a_question_about_a_missing_queue(broker: Amqp) -> None:
    gone = broker.queue("gone")
    broker.publish("", "nobody", {"foo": "bar"})
    gone.declare()
    gone.delete()
    with pytest.raises(ChannelClosed, match="404"):
        broker.queue("gone", declare=False).get_nowait()
    fresh = broker.queue("fresh")
    fresh.put({"foo": "bar"}, timeout=3)
    assert fresh.get_nowait().json() == {"foo": "bar"}


def test_coming_back_resumes_what_consumed_and_nothing_else(connect: Connect, proxy: TcpProxy, broker: Amqp) -> None:
    far = connect(proxy)
    active, inactive = far.queue("active"), far.queue("inactive")
    inactive.declare()
    with active.consumer() as consumer:
        never_started = inactive.consumer()
        proxy.drop()
        eventually(lambda: far.consuming.recoveries == 2)
        assert broker.queue("active").declare().consumer_count == 1
        assert broker.queue("inactive").declare().consumer_count == 0
        active.put({"hello": "world"}, retry=True)
        assert consumer.get(5).json() == {"hello": "world"}
        with pytest.raises(queue.Empty):
            never_started.get_nowait()
