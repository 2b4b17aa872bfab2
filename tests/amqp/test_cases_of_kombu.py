"""The cases of kombu's integration tests for RabbitMQ (5.7, t/integration/test_py_amqp.py and common.py), written anew for this client.

`CASES` names the test of each, here or in another file; a test looks the names up.
"""

import ast
import pickle
import queue
import socket
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest
from private_servers import PrivateRabbit

from nucleon.amqp import Amqp, ChannelClosed, ConnectionLost, Message
from nucleon.testing import TcpProxy, eventually

CASES = """
basic      connect                                test_connect_and_close
basic      failed_connect                         test_a_failed_connection_is_an_error_and_calls_nothing
basic      failed_connection                      test_a_failed_connection_is_an_error_and_calls_nothing
basic      failed_channel                         test_a_failed_connection_is_an_error_and_calls_nothing
basic      failed_default_channel                 test_a_failed_connection_is_an_error_and_calls_nothing
basic      default_channel_autoconnect            test_connect_and_close
basic      channel                                test_the_low_level_channel_has_every_method
basic      default_channel                        test_the_low_level_channel_has_every_method
basic      autoretry_default_channel              test_a_put_with_retry_is_sent_again_under_the_same_id
basic      publish_consume                        test_publish_and_consume_a_foreign_content_type
basic      consume_empty_queue                    test_empty_is_the_standard_librarys
basic      simple_queue_publish_consume           test_a_simple_queue_and_a_simple_buffer
basic      simple_buffer_publish_consume          test_a_simple_queue_and_a_simple_buffer
exchanges  direct                                 test_a_direct_exchange_gives_to_its_key_alone
exchanges  direct_routing_keys                    test_a_direct_exchange_gives_to_its_key_alone
exchanges  fanout                                 test_exchanges_of_all_kinds
exchanges  topic                                  test_exchanges_of_all_kinds
exchanges  publish_empty_exchange                 test_a_direct_exchange_gives_to_its_key_alone
ttl        publish_consume                        test_messages_and_queues_expire
ttl        simple_queue_publish_consume           test_messages_and_queues_expire
ttl        simple_buffer_publish_consume          test_messages_and_queues_expire
priority   publish_consume                        test_priorities_come_first_and_equals_in_order
priority   publish_requeue_consume                test_messages_given_back_keep_their_priority_and_their_place
priority   simple_queue_publish_consume           test_priorities_come_first_and_equals_in_order
priority   simple_buffer_publish_consume          test_priorities_come_first_and_equals_in_order
message    ack                                    test_a_message_is_acknowledged_when_its_block_ends_well
message    reject_no_requeue                      test_a_rejected_message_is_gone_or_comes_back
message    reject_requeue                         test_a_rejected_message_is_gone_or_comes_back
message    requeue                                test_nack_gives_a_message_back
failover   connect                                test_failover_takes_the_host_that_is_there
failover   publish_consume                        test_failover_takes_the_host_that_is_there
failover   consume_empty_queue                    test_failover_takes_the_host_that_is_there
failover   simple_buffer_publish_consume          test_failover_takes_the_host_that_is_there
failover   switches_to_alternate_url              test_failover_takes_the_host_that_is_there
failover   rejects_dotted_alternate               test_addresses_that_cannot_be_read_are_a_setup_error_without_the_password
failover   to_dotted_alternate_keeps_transport    test_addresses_that_cannot_be_read_are_a_setup_error_without_the_password
failover   to_alias_alternate_is_allowed          test_another_host_is_taken_when_one_is_away
autoretry  initial_connection_retry_policy        test_a_failed_connection_is_an_error_and_calls_nothing
eventloop  ack_from_another_thread                test_messages_are_acknowledged_in_another_greenlet_later
pool       publish_confirm_does_not_block         test_a_client_is_not_poisoned_by_a_question_about_a_missing_queue
revive     revive_resumes_active_queue_only       test_coming_back_resumes_what_consumed_and_nothing_else
"""
Connect = Callable[..., Amqp]


def test_every_case_of_kombu_has_a_test() -> None:
    lines = [line.split() for line in CASES.strip().splitlines()]
    assert len(lines) == len({(room, case) for room, case, _ in lines}) == 41
    trees = [ast.parse(file.read_text()) for file in Path(__file__).parent.glob("test_*.py")]
    here = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert {name for _, _, name in lines} <= here


def test_connect_and_close(broker: Amqp) -> None:
    broker.health()
    broker.stop()
    broker.start()
    broker.health()


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


def test_messages_given_back_keep_their_priority_and_their_place(broker: Amqp) -> None:
    ranked = broker.queue("ranked", max_priority=10)
    for body, priority in (("first", 3), ("second", 6), ("third", 3)):
        ranked.put(body, priority=priority)
    with ranked.consumer(3) as consumer:
        for message in [consumer.get(5) for _ in range(3)]:
            message.nack(requeue=True)
        ranked.put("fourth", priority=9)
    assert eventually(lambda: ranked.qsize() == 4)
    assert [ranked.get_nowait().body for _ in range(4)] == [b"fourth", b"second", b"first", b"third"]


def test_a_direct_exchange_gives_to_its_key_alone(broker: Amqp) -> None:
    direct = broker.exchange("direct", kind="direct")
    direct.publish("d1", b"nobody is bound yet")
    one, two = broker.temporary_queue().bind(direct, "d1"), broker.temporary_queue().bind(direct, "d2")
    for key in ("d1", "d3"):
        direct.publish(key, key)
    assert one.get(5).body == b"d1"
    for empty in (one, two):
        with pytest.raises(queue.Empty):
            empty.get_nowait()


def test_messages_are_acknowledged_in_another_greenlet_later(broker: Amqp) -> None:
    handed = broker.queue("handed")
    handed.put_many([b"0", b"1"])
    acked: list[bytes] = []

    def later(message: Message) -> None:
        gevent.sleep(0.05)
        assert message.ack()
        acked.append(message.body)

    with handed.consumer(1) as consumer:  # the second comes only after the first was acknowledged
        for _ in range(2):
            gevent.spawn(later, consumer.get(5))
    assert eventually(lambda: acked == [b"0", b"1"])


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
