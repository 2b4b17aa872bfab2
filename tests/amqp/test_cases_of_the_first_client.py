"""What the first nucleon.amqp (0.2.1, Python 2) tested, all 65 cases, and where each is held here; the cases that no other file has follow.

`CASES` has one line for each of its tests; a test below looks the names up. Its tests of `Message` asked a mock for attributes: here the
same is asked of messages that RabbitMQ delivered.
"""

import ast
import gc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty
from typing import Any

import gevent
import pytest

from nucleon import green
from nucleon.amqp import Amqp, ChannelClosed, ConnectionLost, Queue
from nucleon.amqp.codec import NO_PROPERTIES, command_frames, methods
from nucleon.testing import TcpProxy, eventually

CASES = """
basic    consume_queue                      test_what_was_put_is_got_in_order
basic    consume_callback                   test_serve_runs_many_workers_until_it_is_killed
basic    purge                              test_purge_and_counts
basic    basic_get_ack                      test_get_nowait_loses_nothing
basic    publish_bad_exchange_tx            test_a_commit_tells_of_a_missing_exchange
basic    publish_bad_exchange_acks          test_a_missing_exchange_is_named_and_hurts_nobody_else
basic    basic_return                       test_a_queue_that_is_gone_is_unroutable
basic    basic_return2                      test_immediate_is_refused_by_rabbitmq_and_nobody_else_notices_for_long
basic    persistent                         test_messages_are_persistent_unless_told_otherwise
basic    reject                             test_nack_gives_a_message_back
basic    reject_no_requeue                  test_a_rejected_message_is_gone_or_comes_back
basic    reject_dead_letter_exchange        test_a_rejected_message_goes_through_a_dead_letter_exchange
basic    properties                         test_every_property_travels
basic    ack_fail                           test_settling_twice_or_many_at_once
basic    cancel                             test_a_cancelled_consumer_gets_nothing_more
basic    close                              test_the_low_level_channel_has_every_method
basic    consume_fail                       test_a_consumer_of_a_missing_queue_says_which
basic    broken_ack_on_close                test_a_queue_is_deleted_with_an_open_message_and_the_client_stops
basic    qos                                test_prefetch_is_the_back_pressure
cancel   cancel_single                      test_a_cancelled_consumer_gets_nothing_more
cancel   remote_cancel                      test_a_deleted_queue_ends_its_consumer_and_says_so
channels interleaving                       test_a_small_message_overtakes_a_large_one_on_another_channel
channels greenlet_no_interleaving           test_large_messages_of_one_channel_are_not_mixed
consume  exclusive_queue                    test_temporary_queues_go_with_their_connection
consume  exclusive_consume                  test_an_exclusive_consumer_keeps_others_out
connect  broken_url                         test_nobody_there_is_connection_lost_that_names_the_place
connect  connection_refused                 test_a_failed_connection_is_an_error_and_calls_nothing
connect  parse_url                          test_addresses_are_read_as_rabbitmq_specifies
connect  wrong_user                         test_refused_credentials_are_not_tried_again_and_again
connect  close_on_del                       test_a_client_that_nobody_stopped_is_stopped_by_its_block_and_takes_auto_delete_queues_along
connect  on_connect_handler                 test_exclusive_queues_bindings_and_auto_delete_come_back
connect  reconnect                          test_a_slow_consumer_gets_all_over_a_reset
exchange redeclare                          test_an_exchange_is_declared_as_it_is_or_not_at_all
exchange delete_not_found                   test_deleting_what_is_not_there_is_no_error
exchange bind                               test_a_binding_holds_from_its_making_to_its_end
limits   parallel_queue_declare             test_a_hundred_queues_are_declared_at_once
queue    declare                            test_auto_delete_queues_do_not_rise_after_their_last_consumer
queue    redeclare                          test_declaring_otherwise_than_it_exists_says_so
queue    redeclare_args                     test_declaring_otherwise_than_it_exists_says_so
queue    delete_not_found                   test_deleting_what_is_not_there_is_no_error
queue    bind                               test_a_binding_holds_from_its_making_to_its_end
bug3     wait                               test_what_was_put_is_got_in_order
bug3     loop                               test_an_iteration_ends_with_its_consumer
message  subscript                          test_a_message_tells_where_it_came_from
message  body                               test_a_message_tells_where_it_came_from
message  routing_key                        test_a_message_tells_where_it_came_from
message  exchange                           test_a_message_tells_where_it_came_from
message  channel_property                   test_a_message_tells_where_it_came_from
message  redelivered                        test_nack_gives_a_message_back
message  delivery_tag                       test_a_message_tells_where_it_came_from
message  consumer_tag                       test_a_message_tells_where_it_came_from
message  ack                                test_a_message_is_acknowledged_when_its_block_ends_well
message  reply                              test_rpc_answers_reach_those_who_asked
message  reply_different_routing_key        test_rpc_answers_reach_those_who_asked
message  reply_different_exchange           test_rpc_answers_reach_those_who_asked
message  reply_accepts_kwargs               test_an_answer_takes_properties
message  cancel                             test_an_iteration_ends_with_its_consumer
message  reject                             test_a_rejected_message_is_gone_or_comes_back
message  reject_with_requeue                test_a_rejected_message_is_gone_or_comes_back
flow     sync_diff_connections              test_what_one_client_publishes_another_consumes
flow     async_publish_consume              test_serve_runs_many_workers_until_it_is_killed
flow     async_multi_publish_consume        test_what_one_client_publishes_another_consumes
flow     multiple_publishers                test_many_greenlets_share_one_channel
flow     callback_can_block                 test_a_served_function_may_publish_and_ask
flow     cancel_consume                     test_an_iteration_ends_with_its_consumer
"""
Connect = Callable[..., Amqp]


def test_every_case_of_the_first_client_has_a_test() -> None:
    lines = [line.split() for line in CASES.strip().splitlines()]
    assert len(lines) == len({(room, case) for room, case, _ in lines}) == 65
    trees = [ast.parse(file.read_text()) for file in Path(__file__).parent.glob("test_*.py")]
    here = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert {name for _, _, name in lines} <= here


def test_a_commit_tells_of_a_missing_exchange(broker: Amqp, jobs: Queue) -> None:
    with pytest.raises(ChannelClosed, match="no exchange 'nowhere'") as caught, broker.transaction() as work:
        work.publish("nowhere", "k", b"x")
    assert caught.value.code == 404
    jobs.put(b"others go on")


def test_immediate_is_refused_by_rabbitmq_and_nobody_else_notices_for_long(broker: Amqp, jobs: Queue) -> None:
    channel = broker.channel()
    asked = command_frames(channel.number, methods.BasicPublish(routing_key="jobs", immediate=True), NO_PROPERTIES, b"x", 131_072)
    broker.publishing.get().transport.send(asked)
    with pytest.raises(ConnectionLost, match="540"):  # since RabbitMQ 3.0; it ends the connection
        channel.call(methods.BasicQos())
    jobs.put(b"x", retry=True)
    assert jobs.get(5).body == b"x"


def test_messages_are_persistent_unless_told_otherwise(jobs: Queue) -> None:
    jobs.put(b"default")
    jobs.put(b"in memory", delivery_mode=1)
    assert [jobs.get(5).properties.delivery_mode for _ in range(2)] == [2, 1]


def test_a_rejected_message_is_gone_or_comes_back(jobs: Queue) -> None:
    jobs.put_many([b"back", b"gone"])
    assert jobs.get_nowait().reject(requeue=True)
    again = jobs.get_nowait()
    assert (again.body, again.redelivered) == (b"back", True)
    assert jobs.get_nowait().reject()
    assert again.reject()
    with pytest.raises(Empty):
        jobs.get_nowait()


def test_a_rejected_message_goes_through_a_dead_letter_exchange(broker: Amqp) -> None:
    dead = broker.temporary_queue().bind(broker.exchange("dead-letter", kind="fanout"))
    work = broker.queue("work", arguments={"x-dead-letter-exchange": "dead-letter"})
    work.put(b"a")
    work.get(5).reject()
    letter = dead.get(5)
    assert (letter.body, letter.redelivered, letter.headers["x-death"][0]["reason"]) == (b"a", False, "rejected")


def test_every_property_travels(jobs: Queue) -> None:
    properties: dict[str, Any] = {
        "content_type": "a", "content_encoding": "b", "delivery_mode": 2, "priority": 1, "correlation_id": "d", "reply_to": "e",
        "expiration": "60000", "message_id": "g", "timestamp": datetime(2026, 1, 1, tzinfo=UTC), "type": "h", "user_id": "nucleon",
        "app_id": "j", "cluster_id": "k",
    }  # fmt: skip
    headers = {"custom": "l", "list": [True, 1, -1, 2**62, -(2**62), [1, 2, 3, {"a": "b", "c": []}]]}
    jobs.put(b"x", headers=headers, **properties)
    got = jobs.get(5).properties
    assert {name: getattr(got, name) for name in properties} == properties
    assert got.headers == headers


def test_a_cancelled_consumer_gets_nothing_more(jobs: Queue) -> None:
    jobs.put_many([b"a", b"a"])
    with jobs.consumer(1) as consumer:
        for _ in range(2):
            assert consumer.get(5).ack()
    jobs.put(b"b")
    with pytest.raises(Empty):
        consumer.get_nowait()
    assert jobs.declare().consumer_count == 0
    assert jobs.get_nowait().body == b"b"


def test_a_queue_is_deleted_with_an_open_message_and_the_client_stops(broker: Amqp) -> None:
    short = broker.queue("short")
    short.put(b"a")
    message = short.get_nowait()
    short.delete()
    message.ack()
    broker.stop()


def test_a_small_message_overtakes_a_large_one_on_another_channel(connect: Connect, proxy: TcpProxy, broker: Amqp) -> None:
    far, mailbox = connect(proxy), broker.queue("mailbox")
    mailbox.declare()
    small, large = far.channel(), far.channel()
    proxy.blackhole("to_server")  # what fits into the socket leaves, the rest waits here
    large.publish("", "mailbox", b"large" * 4_000_000)
    large.publish("", "mailbox", b"behind it")
    green.sleep(0.05)
    assert far.publishing.get().transport.unsent_pieces_bytes > 1_000_000
    small.publish("", "mailbox", b"small")
    proxy.pass_through()
    assert [len(mailbox.get(20).body) for _ in range(3)] == [5, 20_000_000, 9]


def test_a_large_message_to_nowhere_hurts_only_its_channel(broker: Amqp, jobs: Queue) -> None:
    jobs.declare()
    for _ in range(3):
        with pytest.raises(ChannelClosed, match="no exchange 'nowhere'"):
            broker.publish("nowhere", "", b"x" * 3_000_000)
        jobs.put(b"x")
        broker.channel().close()
    assert jobs.purge() == 3


def test_large_messages_without_confirm_are_sent_before_the_client_stops(connect: Connect, jobs: Queue) -> None:
    jobs.declare()
    passing = connect()
    for _ in range(3):
        passing.queue("jobs").put_nowait(b"x" * 5_000_000)
    passing.stop()
    assert [len(jobs.get(20).body) for _ in range(3)] == [5_000_000] * 3


def test_large_messages_of_one_channel_are_not_mixed(broker: Amqp) -> None:
    large, bodies = broker.queue("large"), [letter * 8_000_000 for letter in (b"a", b"b")]
    gevent.joinall([gevent.spawn(large.put, body, timeout=30) for body in bodies], raise_error=True)
    assert sorted(large.get(20).body for _ in bodies) == bodies


def test_a_client_that_nobody_stopped_is_stopped_by_its_block_and_takes_auto_delete_queues_along(broker: Amqp, amqp_url: str) -> None:
    with Amqp(url=amqp_url) as passing:
        passing.queue("banana", auto_delete=True).consumer().start()
        assert broker.queue("banana", declare=False).qsize() == 0
    del passing
    gc.collect()
    with pytest.raises(ChannelClosed, match="404"):
        eventually(lambda: broker.queue("banana", declare=False).qsize() < 0, within_seconds=3)


def test_a_slow_consumer_gets_all_over_a_reset(connect: Connect, proxy: TcpProxy, broker: Amqp) -> None:
    far, seen = connect(proxy), list[int]()
    slow = far.queue("slow")
    with broker.transaction() as work:
        broker.queue("slow").declare()
        for number in range(10):
            work.publish("", "slow", b"%d" % number)
    with slow.consumer(1) as consumer:
        while len(set(seen)) < 10:
            message = consumer.get(10)
            green.sleep(0.02)
            seen.append(int(message.body))
            if len(seen) == 4:
                proxy.drop()
            message.ack()
    assert set(seen) == set(range(10)) and len(seen) <= 11


def test_deleting_what_is_not_there_is_no_error(broker: Amqp) -> None:
    broker.exchange("nowhere").delete()  # RabbitMQ answers that it is gone, since 3.2
    assert broker.queue("nobody").delete() == 0


def test_a_binding_holds_from_its_making_to_its_end(broker: Amqp) -> None:
    outer, inner = broker.exchange("outer", kind="fanout"), broker.exchange("inner", kind="fanout")
    for one in (outer, inner):
        one.declare()
    mine = broker.temporary_queue().bind(inner)
    outer.publish("", b"a")
    inner.bind(outer)
    outer.publish("", b"b")
    inner.unbind(outer)
    outer.publish("", b"c")
    assert mine.get(5).body == b"b"
    mine.unbind(inner)
    inner.publish("", b"d")
    with pytest.raises(Empty):
        mine.get_nowait()


def test_a_hundred_queues_are_declared_at_once(broker: Amqp) -> None:
    asked = [gevent.spawn(broker.temporary_queue().declare) for _ in range(100)]
    gevent.joinall(asked, raise_error=True)
    assert all(isinstance(one.value, methods.QueueDeclareOk) for one in asked)


def test_a_message_tells_where_it_came_from(broker: Amqp, jobs: Queue) -> None:
    jobs.bind(broker.exchange("messages"), "channel.*")
    broker.publish("messages", "channel.foo", "hello", headers={"some-custom-property": 1})
    message = jobs.get(5)
    assert (message.body, message.exchange, message.routing_key) == (b"hello", "messages", "channel.foo")
    assert (message.delivery_tag, message.redelivered, message.headers) == (1, False, {"some-custom-property": 1})
    assert message.source.queue is jobs  # by which its consumer is stopped; the channel is that consumer's affair


def test_an_answer_takes_properties(broker: Amqp) -> None:
    def answer() -> None:
        with service.get(5) as message:
            message.reply(b"foo", type="bar")

    service = broker.queue("service")
    service.declare()
    answering = green.spawn(answer)
    assert broker.rpc("service", b"?", timeout=5).properties.type == "bar"
    answering.join()


def test_what_one_client_publishes_another_consumes(broker: Amqp, connect: Connect) -> None:
    listener = broker.queue("listener").bind(broker.exchange("room", kind="direct"), "user1")
    other = connect()
    for number in range(3):
        other.publish("room", "user1", b"message %d" % number)
        message = listener.get(5)
        assert message.ack() and message.body == b"message %d" % number
        with pytest.raises(Empty):
            listener.get_nowait()


def test_a_served_function_may_publish_and_ask(broker: Amqp, jobs: Queue) -> None:
    seen: list[bytes] = []

    def work(message: object) -> None:
        body = message.body  # type: ignore[attr-defined]
        if body == b"initial":
            jobs.put(b"callback")
            assert jobs.qsize() >= 0
        seen.append(body)

    serving = green.spawn(jobs.serve, work)
    jobs.put(b"initial")
    jobs.put(b"outer")
    assert eventually(lambda: len(seen) == 3)
    serving.kill()
    assert sorted(seen) == [b"callback", b"initial", b"outer"]
