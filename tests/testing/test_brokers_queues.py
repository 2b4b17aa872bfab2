"""What a broker does, told by one suite to two: how messages wait, are delivered, and die."""

from collections.abc import Callable
from typing import Any

import pytest
from wire_client import Closed, Wire, bound, counts, exchange

from nucleon.amqp.codec import methods
from nucleon.testing import eventually

Connect = Callable[[], Wire]


def test_prefetch_bounds_what_is_delivered_and_acks_make_room(wire: Wire) -> None:
    wire.queue("q")
    for number in range(5):
        wire.publish("", "q", b"%d" % number)
    wire.consume("q", prefetch=2)
    assert [wire.delivered(), wire.delivered()] == [(1, b"0"), (2, b"1")]
    assert wire.nothing_comes(methods.BasicDeliver)
    wire.send(methods.BasicAck(2, True))
    assert [wire.delivered(), wire.delivered()] == [(3, b"2"), (4, b"3")]


def test_consumers_take_turns(connect: Connect) -> None:
    one, other = connect(), connect()
    one.queue("q")
    one.consume("q", prefetch=10)
    other.consume("q", prefetch=10)
    for _ in range(4):
        one.publish("", "q", b"x")
    for wire in (one, other):
        assert [wire.delivered()[0], wire.delivered()[0]] == [1, 2]


def test_a_consumer_of_higher_priority_comes_first(connect: Connect) -> None:
    low, high = connect(), connect()
    low.queue("q")
    low.consume("q", prefetch=2)
    high.consume("q", prefetch=2, x_priority=5)
    for number in range(3):
        low.publish("", "q", b"%d" % number)
    assert [high.delivered()[1], high.delivered()[1], low.delivered()[1]] == [b"0", b"1", b"2"]


def test_what_is_given_back_comes_first_and_says_so(wire: Wire) -> None:
    wire.queue("q")
    wire.publish("", "q", b"1")
    wire.publish("", "q", b"2")
    wire.consume("q", prefetch=1)
    assert wire.get(methods.BasicDeliver).redelivered is False
    wire.send(methods.BasicNack(1, False, True))
    again = wire.get(methods.BasicDeliver)
    assert (again.delivery_tag, again.redelivered, wire.body) == (2, True, b"1")
    wire.send(methods.BasicReject(2, False))
    assert wire.delivered() == (3, b"2")


def test_what_a_lost_connection_held_is_delivered_to_another(connect: Connect) -> None:
    one, other = connect(), connect()
    one.queue("q")
    one.publish("", "q", b"x")
    one.consume("q")
    one.delivered()
    other.consume("q")
    one.close()
    assert other.get(methods.BasicDeliver).redelivered is True
    assert other.body == b"x"


def test_a_cancelled_consumer_gets_no_more_and_keeps_what_it_has(wire: Wire) -> None:
    wire.queue("q")
    wire.publish("", "q", b"1")
    tag = wire.consume("q", prefetch=5, tag="mine")
    assert tag == "mine"
    wire.delivered()
    wire.ask(methods.BasicCancel("mine"), methods.BasicCancelOk)
    wire.publish("", "q", b"2")
    assert wire.nothing_comes(methods.BasicDeliver)
    wire.send(methods.BasicAck(1))
    assert wire.take("q") == b"2"


def test_a_deleted_queue_cancels_its_consumers(connect: Connect) -> None:
    one, other = connect(), connect()
    one.queue("q")
    tag = one.consume("q")
    other.ask(methods.QueueDelete(0, "q"), methods.QueueDeleteOk)
    assert one.get(methods.BasicCancel).consumer_tag == tag
    assert other.ask(methods.QueueDelete(0, "q"), methods.QueueDeleteOk).message_count == 0


def test_an_exclusive_consumer_is_alone(connect: Connect) -> None:
    one, other = connect(), connect()
    one.queue("q")
    one.ask(methods.BasicConsume(0, "q", "", False, False, True), methods.BasicConsumeOk)
    with pytest.raises(Closed, match=r"403 ACCESS_REFUSED - queue 'q' in vhost .* in exclusive use"):
        other.consume("q")


def test_recover_gives_everything_back(wire: Wire) -> None:
    wire.queue("q")
    wire.publish("", "q", b"x")
    wire.consume("q")
    wire.delivered()
    wire.ask(methods.BasicRecover(True), methods.BasicRecoverOk)
    assert (wire.get(methods.BasicDeliver).redelivered, wire.body) == (True, b"x")


def test_a_single_active_consumer_takes_everything_until_it_goes(connect: Connect) -> None:
    one, other = connect(), connect()
    one.queue("q", x_single_active_consumer=True)
    tag = one.consume("q")
    other.consume("q")
    for number in range(3):
        one.publish("", "q", b"%d" % number)
    assert [one.delivered()[0] for _ in range(3)] == [1, 2, 3]
    one.send(methods.BasicAck(3, True))
    one.ask(methods.BasicCancel(tag), methods.BasicCancelOk)
    one.publish("", "q", b"last")
    assert other.delivered()[1] == b"last"


# the lives of queues


def test_an_exclusive_queue_is_locked_and_goes_with_its_connection(connect: Connect) -> None:
    one, other = connect(), connect()
    name = one.ask(methods.QueueDeclare(0, "", exclusive=True), methods.QueueDeclareOk).queue
    assert name.startswith("amq.gen-")
    with pytest.raises(Closed, match="405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue"):
        other.count(name)
    one.close()

    def has_gone() -> bool:
        other.open()
        with pytest.raises(Closed) as closed:
            other.count(name)
        return closed.value.code == 404

    eventually(has_gone)


def test_an_auto_delete_queue_goes_with_its_last_consumer(wire: Wire) -> None:
    wire.ask(methods.QueueDeclare(0, "q", auto_delete=True, durable=True), methods.QueueDeclareOk)
    tag = wire.consume("q")
    wire.ask(methods.BasicCancel(tag), methods.BasicCancelOk)
    with pytest.raises(Closed, match="404"):
        wire.count("q")


def test_an_auto_delete_exchange_goes_with_its_last_binding(wire: Wire) -> None:
    wire.ask(methods.ExchangeDeclare(0, "x", auto_delete=True, durable=True), methods.ExchangeDeclareOk)
    bound(wire, "x", ("q", "k"))
    wire.ask(methods.QueueUnbind(0, "q", "x", "k"), methods.QueueUnbindOk)
    with pytest.raises(Closed, match="404"):
        wire.ask(methods.ExchangeDeclare(0, "x", passive=True), methods.ExchangeDeclareOk)


def test_purge_tells_how_many(wire: Wire) -> None:
    wire.queue("q")
    wire.confirmed()
    for _ in range(3):
        wire.put("q", b"x")
    assert wire.ask(methods.QueuePurge(0, "q"), methods.QueuePurgeOk).message_count == 3


def test_a_queue_in_use_is_not_deleted_if_unused(connect: Connect) -> None:
    one, other = connect(), connect()
    one.queue("q")
    one.consume("q")
    with pytest.raises(Closed, match=r"406 PRECONDITION_FAILED - queue 'q' in vhost .* in use"):
        other.ask(methods.QueueDelete(0, "q", True), methods.QueueDeleteOk)


# death and limits


def dead_letters(wire: Wire) -> None:
    exchange(wire, "dlx", "fanout")
    bound(wire, "dlx", ("dead", ""))


def death(wire: Wire) -> dict[str, Any]:
    eventually(lambda: wire.count("dead") > 0)
    wire.take("dead")
    entry: dict[str, Any] = wire.headers["x-death"][0]
    return entry


def test_a_rejected_message_goes_to_the_dead_letters_with_its_story(wire: Wire) -> None:
    dead_letters(wire)
    wire.queue("q", x_dead_letter_exchange="dlx")
    wire.publish("", "q", b"x", headers={"mine": 1}, message_id="m")
    wire.consume("q")
    wire.send(methods.BasicReject(wire.delivered()[0], False))
    entry = death(wire)
    assert {"reason": "rejected", "queue": "q", "count": 1, "exchange": "", "routing-keys": ["q"]}.items() <= entry.items()
    assert (wire.headers["mine"], wire.properties.message_id) == (1, "m")
    assert (wire.headers["x-first-death-queue"], wire.headers["x-first-death-reason"]) == ("q", "rejected")


def test_an_old_message_dies_of_its_own_time_or_its_queues(wire: Wire) -> None:
    dead_letters(wire)
    wire.queue("own", x_dead_letter_exchange="dlx", x_dead_letter_routing_key="new-key")
    wire.queue("of-queue", x_dead_letter_exchange="dlx", x_message_ttl=20)
    wire.publish("", "own", b"1", expiration="10")
    entry = death(wire)
    assert (entry["reason"], entry["queue"], entry["original-expiration"]) == ("expired", "own", "10")
    assert wire.properties.expiration is None
    wire.publish("", "of-queue", b"2", expiration="100000")
    assert death(wire)["queue"] == "of-queue"


def test_an_old_message_waits_for_a_younger_one_before_it(wire: Wire) -> None:
    wire.queue("q")
    wire.publish("", "q", b"long", expiration="60000")
    wire.publish("", "q", b"short", expiration="1")
    assert wire.take("q") == b"long"
    eventually(lambda: wire.count("q") == 0)


def test_a_message_that_dies_again_is_counted(wire: Wire) -> None:
    wire.queue("work", x_dead_letter_exchange="", x_dead_letter_routing_key="wait")
    wire.queue("wait", x_dead_letter_exchange="", x_dead_letter_routing_key="work", x_message_ttl=10)
    wire.publish("", "work", b"x")
    wire.consume("work")
    for _ in range(2):
        wire.send(methods.BasicReject(wire.delivered()[0], False))
    wire.delivered()
    told = {(entry["queue"], entry["reason"]): entry["count"] for entry in wire.headers["x-death"]}
    assert told == {("work", "rejected"): 2, ("wait", "expired"): 2}


def test_a_circle_without_a_rejection_is_broken(wire: Wire) -> None:
    wire.queue("a", x_dead_letter_exchange="", x_dead_letter_routing_key="b", x_message_ttl=10)
    wire.queue("b", x_dead_letter_exchange="", x_dead_letter_routing_key="a", x_message_ttl=10)
    wire.confirmed()
    wire.put("a", b"x")
    eventually(lambda: counts(wire, "a", "b") == [0, 0])


def test_a_full_queue_drops_its_oldest(wire: Wire) -> None:
    dead_letters(wire)
    wire.queue("q", x_max_length=2, x_dead_letter_exchange="dlx")
    wire.confirmed()
    assert [wire.put("q", b"%d" % number) for number in range(3)] == [True] * 3
    assert death(wire)["reason"] == "maxlen"
    assert wire.body == b"0"
    assert [wire.take("q"), wire.take("q")] == [b"1", b"2"]


def test_a_full_queue_that_rejects_says_nack(wire: Wire) -> None:
    wire.queue("q", x_max_length=1, x_overflow="reject-publish")
    wire.confirmed()
    assert [wire.put("q", b"1"), wire.put("q", b"2")] == [True, False]
    assert [wire.take("q"), wire.take("q")] == [b"1", None]
    assert wire.put("q", b"3")


def test_a_quorum_queue_counts_deliveries_and_gives_up_at_its_limit(wire: Wire) -> None:
    dead_letters(wire)
    wire.queue("q", x_queue_type="quorum", x_delivery_limit=2, x_dead_letter_exchange="dlx")
    wire.publish("", "q", b"x")
    wire.consume("q", prefetch=1)
    counted = []
    for _ in range(3):
        tag, _body = wire.delivered()
        counted.append(wire.headers.get("x-delivery-count", 0))
        wire.send(methods.BasicNack(tag, False, True))
    assert counted == [0, 1, 2]
    assert death(wire)["reason"] == "delivery_limit"


def test_priorities_are_served_first(wire: Wire) -> None:
    wire.queue("q", x_max_priority=5)
    wire.confirmed()
    for priority in (0, 3, 9, 3):
        wire.put("q", b"%d" % priority, priority=priority)
    assert [wire.take("q") for _ in range(4)] == [b"9", b"3", b"3", b"0"]


# transactions, replies


def test_a_transaction_is_done_whole_or_not_at_all(wire: Wire) -> None:
    wire.queue("q")
    wire.queue("out")
    wire.publish("", "q", b"in")
    eventually(lambda: wire.count("q") == 1)
    wire.ask(methods.TxSelect(), methods.TxSelectOk)
    wire.take("q", no_ack=False)
    for end, reply, counted in ((methods.TxRollback(), methods.TxRollbackOk, 0), (methods.TxCommit(), methods.TxCommitOk, 1)):
        wire.publish("", "out", b"x")
        wire.send(methods.BasicAck(1))
        wire.ask(end, reply)
        assert wire.count("out") == counted


def test_a_channel_has_confirms_or_transactions(wire: Wire) -> None:
    wire.confirmed()
    with pytest.raises(Closed, match="406 PRECONDITION_FAILED - cannot switch from confirm to tx mode"):
        wire.ask(methods.TxSelect(), methods.TxSelectOk)


def test_a_reply_comes_straight_to_the_channel_that_asked(connect: Connect) -> None:
    asking, answering = connect(), connect()
    answering.queue("service")
    answering.consume("service")
    asking.consume("amq.rabbitmq.reply-to", no_ack=True)
    asking.publish("", "service", b"question", reply_to="amq.rabbitmq.reply-to", correlation_id="c-1")
    answering.delivered()
    address = answering.properties.reply_to
    assert address is not None and address.startswith("amq.rabbitmq.reply-to.")
    answering.publish("", address, b"answer", correlation_id="c-1")
    assert asking.delivered()[1] == b"answer"
    assert asking.properties.correlation_id == "c-1"
    asking.close()
    answering.confirmed()

    def is_gone() -> bool:
        answering.publish("", address, b"late", mandatory=True)
        return isinstance(answering._next().method, methods.BasicReturn)

    eventually(is_gone)


def test_asking_without_a_reply_consumer_is_refused(wire: Wire) -> None:
    wire.queue("service")
    wire.publish("", "service", b"x", reply_to="amq.rabbitmq.reply-to")
    with pytest.raises(Closed, match="406 PRECONDITION_FAILED - fast reply consumer does not exist"):
        wire.get(methods.BasicAck)


def test_channels_of_a_connection_are_apart(wire: Wire) -> None:
    wire.open(2)
    wire.queue("q")
    with pytest.raises(Closed):
        wire.ask(methods.BasicGet(0, "none"), methods.BasicGetOk, channel=2)
    assert wire.count("q") == 0
    wire.ask(methods.ChannelClose(), methods.ChannelCloseOk)
    wire.open()
    assert wire.count("q") == 0


def is_gone(wire: Wire, queue: str) -> bool:
    """Tell without asking about the queue, which would keep it."""
    wire.publish("", queue, b"x", mandatory=True)
    while True:
        method = wire._next().method
        if isinstance(method, methods.BasicReturn):
            return True
        if isinstance(method, methods.BasicAck):
            return False


def test_an_unused_queue_goes_after_its_time_and_its_messages_with_it(connect: Connect) -> None:
    wire, other = connect(), connect()
    wire.queue("dead")
    wire.queue("short", x_expires=300, x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    other.queue("consumed", x_expires=300)
    other.consume("consumed")
    wire.confirmed()
    assert wire.put("short", b"lost")
    eventually(lambda: is_gone(wire, "short"))
    assert not is_gone(wire, "consumed")  # a consumer keeps it
    other.close()
    eventually(lambda: is_gone(wire, "consumed"))
    assert wire.count("dead") == 0


def test_a_queue_that_is_declared_again_asked_about_or_got_from_lasts_anew(wire: Wire) -> None:
    wire.queue("short", x_expires=600)
    for _ in range(3):
        for use in (lambda: wire.queue("short", x_expires=600), lambda: wire.count("short"), lambda: wire.take("short")):
            assert wire.nothing_comes(methods.BasicDeliver, 0.15)  # time goes by
            use()
    wire.confirmed()
    assert not is_gone(wire, "short")


def test_an_unused_queue_lasts_some_time(wire: Wire) -> None:
    with pytest.raises(Closed, match="406 PRECONDITION_FAILED - invalid arg 'x-expires' for queue 'q'"):
        wire.queue("q", x_expires=0)
