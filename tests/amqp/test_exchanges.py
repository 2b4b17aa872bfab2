"""Exchanges, bindings, returns, questions and answers, transactions, and the channel below: against a real RabbitMQ."""

import queue

import gevent
import pytest

from nucleon import Model, green
from nucleon.amqp import (
    Amqp,
    AmqpError,
    ChannelClosed,
    NoAnswer,
    Queue,
    StaleDelivery,
    Unroutable,
)
from nucleon.amqp.codec import methods
from nucleon.errors import DeadlineExceeded
from nucleon.testing import eventually


class Order(Model):
    id: int


def test_a_queue_that_is_gone_is_unroutable(broker: Amqp, jobs: Queue) -> None:
    jobs.put(b"x")
    other = broker.queue("jobs", declare=False)
    jobs.delete()
    with pytest.raises(Unroutable) as caught:
        other.put(b"x")
    assert caught.value.code == 312
    jobs.put(b"x")  # this handle declares it again
    assert jobs.get(5).body == b"x"


def test_returns_are_matched_among_many_publishes(broker: Amqp) -> None:
    exchange = broker.exchange("routes", kind="direct")
    broker.queue("there").bind(exchange, "there")
    confirms = [
        exchange.publish_async("there" if number % 3 else "nowhere", b"%d" % (number // 6), mandatory=True) for number in range(300)
    ]  # fmt: skip
    failed = []
    for number, confirm in enumerate(confirms):
        try:
            confirm.wait(5)
        except Unroutable:
            failed.append(number)
    assert failed == list(range(0, 300, 3))


def test_exchanges_of_all_kinds(broker: Amqp) -> None:
    for kind, key, arguments, wanted in (
        ("direct", "a.b", {}, True),
        ("fanout", "", {}, True),
        ("topic", "a.*", {}, True),
        ("headers", "", {"x-match": "all", "h": 1}, True),
        ("topic", "b.#", {}, False),
    ):
        exchange = broker.exchange(f"x-{kind}", kind=kind)
        target = broker.temporary_queue().bind(exchange, key, arguments=arguments)
        exchange.publish("a.b", kind, headers={"h": 1})
        if wanted:
            assert target.get(5).body == kind.encode()
        else:
            with pytest.raises(queue.Empty):
                target.get(0.1)
        target.unbind(exchange, key, arguments=arguments)


def test_exchanges_bind_to_exchanges_and_alternates_take_the_rest(broker: Amqp) -> None:
    rest = broker.exchange("rest", kind="fanout")
    unrouted = broker.temporary_queue().bind(rest)
    source = broker.exchange("source", kind="topic", alternate="rest")
    target = broker.exchange("target", kind="fanout").bind(source, "to.target")
    routed = broker.temporary_queue().bind(target)
    source.publish("to.target", b"1", mandatory=True)
    source.publish("elsewhere", b"2", mandatory=True)
    assert (routed.get(5).body, unrouted.get(5).body) == (b"1", b"2")
    target.unbind(source, "to.target")
    source.publish("to.target", b"3")
    assert unrouted.get(5).body == b"3"
    source.delete()


def test_bindings_of_a_client_that_was_not_started_are_made_at_the_first_use(amqp_url: str) -> None:
    broker = Amqp(url=amqp_url)
    events = broker.queue("events").bind(broker.exchange("news"), "order.*")
    assert repr(broker) == "<Amqp 'amqp' not used yet>"
    with broker:
        events.declare()
        broker.publish("news", "order.created", Order(id=1))
        assert events.get(5).json(Order) == Order(id=1)


def test_declaring_otherwise_than_it_exists_says_so(broker: Amqp, jobs: Queue) -> None:
    jobs.declare()
    with pytest.raises(ChannelClosed, match="inequivalent arg") as caught:
        broker.queue("jobs", max_length=5).declare()
    assert (caught.value.code, caught.value.method) == (406, "queue.declare")
    jobs.put(b"others go on")


def test_rpc_answers_reach_those_who_asked(broker: Amqp) -> None:
    def answer() -> None:
        for message in service:
            with message:
                message.reply({"twice": message.json() * 2})

    service = broker.queue("double")
    service.declare()
    answering = green.spawn(answer)
    asking = [gevent.spawn(lambda number=number: broker.rpc("double", number, timeout=5).json()) for number in range(50)]
    gevent.joinall(asking, raise_error=True)
    answering.kill()
    assert [one.value for one in asking] == [{"twice": number * 2} for number in range(50)]


def test_rpc_without_an_answer_ends_in_time(broker: Amqp, jobs: Queue) -> None:
    jobs.declare()
    with pytest.raises(NoAnswer):
        broker.rpc("jobs", b"?", timeout=0.2)
    with pytest.raises(Unroutable):
        broker.rpc("nobody", b"?", timeout=5)
    with green.deadline(0.2), pytest.raises(DeadlineExceeded):
        broker.rpc("jobs", b"?")
    with pytest.raises(queue.Empty):
        jobs.get(0.1)  # the questions have expired


def test_transactions_commit_or_leave_nothing(broker: Amqp, jobs: Queue) -> None:
    jobs.declare()
    with pytest.raises(RuntimeError), broker.transaction() as work:
        work.publish("", "jobs", b"1")
        raise RuntimeError("no")
    with broker.transaction() as work:
        work.publish("", "jobs", b"2")
        work.publish("", "jobs", b"3")
    assert [jobs.get(5).body, jobs.get(5).body] == [b"2", b"3"]


def test_temporary_queues_go_with_their_connection(broker: Amqp, amqp_url: str) -> None:
    mine = broker.temporary_queue()
    mine.put(b"x")
    with Amqp(url=amqp_url) as other:
        with pytest.raises(ChannelClosed) as caught:
            other.queue(mine.name, durable=False, exclusive=True).declare()
        assert caught.value.code == 405
        broker.stop()
        with pytest.raises(ChannelClosed) as gone:
            eventually(lambda: other.queue(mine.name, declare=False).qsize() < 0, within_seconds=3)
    assert gone.value.code == 404


def test_the_low_level_channel_has_every_method(broker: Amqp, jobs: Queue) -> None:
    jobs.put(b"x")
    channel = broker.channel(consuming=True)
    channel.call(methods.BasicQos(0, 10))
    message = channel.call(methods.BasicGet(queue="jobs"))
    assert message.body == b"x"
    channel.send(methods.BasicReject(message.delivery_tag, requeue=True))
    again = channel.call(methods.BasicGet(queue="jobs"))
    assert again.redelivered
    channel.call(methods.BasicRecover(requeue=True))
    channel.call(methods.TxSelect())
    channel.call(methods.TxRollback())
    with pytest.raises(AmqpError, match="channel of its own"):
        message.retry()
    channel.close()
    assert not channel.is_open
    assert not message.ack()
    with pytest.raises(StaleDelivery):
        again.ack(strict=True)


def test_a_missing_exchange_is_named_and_hurts_nobody_else(broker: Amqp, jobs: Queue) -> None:
    jobs.declare()
    confirm = jobs.put_async(b"1")
    with pytest.raises(ChannelClosed, match="no exchange 'nowhere'") as caught:
        broker.publish("nowhere", "key", b"x")
    assert caught.value.code == 404
    confirm.wait(5)
    jobs.put(b"2")
