"""What a broker does, told by one suite to two: where messages go, and what is refused."""

from typing import Any

import pytest
from wire_client import Closed, Wire, bound, counts, exchange

from nucleon.amqp.codec import Properties, methods
from nucleon.testing.broker.routing import topic_matches


def test_the_default_exchange_goes_to_the_queue_of_that_name(wire: Wire) -> None:
    wire.queue("q")
    wire.confirmed()
    assert wire.put("q", b"one", message_id="m-1", headers={"n": 1, "nested": {"list": [1, "x", None]}})
    assert wire.take("q") == b"one"
    assert (wire.properties.message_id, wire.headers) == ("m-1", {"n": 1, "nested": {"list": [1, "x", None]}})
    assert wire.take("q") is None


def test_a_direct_exchange_compares_keys(wire: Wire) -> None:
    exchange(wire, "d", "direct")
    bound(wire, "d", ("a", "red"), ("b", "red"), ("c", "blue"))
    wire.confirmed()
    wire.publish("d", "red", b"x")
    wire.get(methods.BasicAck)
    assert [wire.take(name) for name in "abc"] == [b"x", b"x", None]


def test_a_fanout_exchange_ignores_keys_and_two_bindings_are_one_message(wire: Wire) -> None:
    exchange(wire, "f", "fanout")
    bound(wire, "f", ("a", "one"), ("a", "two"), ("b", ""))
    wire.publish("f", "anything", b"x")
    assert [wire.take("a"), wire.take("a"), wire.take("b")] == [b"x", None, b"x"]


def test_a_topic_exchange_matches_words(wire: Wire) -> None:
    exchange(wire, "t", "topic")
    bound(wire, "t", ("one", "order.*"), ("more", "order.#"), ("middle", "#.created"), ("all", "#"))
    wire.confirmed()
    for key in ("order.created", "order", "order.item.created", ""):
        wire.publish("t", key, key.encode())
        wire.get(methods.BasicAck)
    got = {name: [wire.take(name) for _ in range(wire.count(name))] for name in ("one", "more", "middle", "all")}
    assert got["one"] == [b"order.created"]
    assert got["more"] == [b"order.created", b"order", b"order.item.created"]
    assert got["middle"] == [b"order.created", b"order.item.created"]
    assert got["all"] == [b"order.created", b"order", b"order.item.created", b""]


def test_a_headers_exchange_matches_all_or_any(wire: Wire) -> None:
    exchange(wire, "h", "headers")
    bound(wire, "h", ("all", ""), x_match="all", kind="pdf", size=1)
    bound(wire, "h", ("any", ""), x_match="any", kind="pdf", size=1)
    wire.confirmed()
    for headers in ({"kind": "pdf", "size": 1, "more": True}, {"kind": "pdf"}, {"kind": "txt"}):
        wire.publish("h", "", b"x", headers=headers)
        wire.get(methods.BasicAck)
    assert counts(wire, "all", "any") == [1, 2]


def test_exchanges_are_bound_to_exchanges_and_unbound(wire: Wire) -> None:
    exchange(wire, "outer", "topic")
    exchange(wire, "inner", "fanout")
    bound(wire, "inner", ("q", ""))
    wire.ask(methods.ExchangeBind(0, "inner", "outer", "a.*"), methods.ExchangeBindOk)
    wire.publish("outer", "a.b", b"1")
    wire.publish("outer", "b", b"2")
    assert [wire.take("q"), wire.take("q")] == [b"1", None]
    wire.ask(methods.ExchangeUnbind(0, "inner", "outer", "a.*"), methods.ExchangeUnbindOk)
    wire.publish("outer", "a.b", b"3")
    assert wire.take("q") is None


def test_an_alternate_exchange_takes_what_is_not_routed(wire: Wire) -> None:
    exchange(wire, "lost", "fanout")
    exchange(wire, "d", "direct", alternate_exchange="lost")
    bound(wire, "lost", ("found", ""))
    wire.confirmed()
    wire.publish("d", "nowhere", b"x", mandatory=True)
    wire.get(methods.BasicAck)
    assert wire.take("found") == b"x"


def test_an_unbound_queue_gets_nothing_more(wire: Wire) -> None:
    bound(wire, "amq.topic", ("q", "k"))
    wire.ask(methods.QueueUnbind(0, "q", "amq.topic", "k"), methods.QueueUnbindOk)
    wire.publish("amq.topic", "k", b"x")
    assert wire.take("q") is None


def test_a_mandatory_message_without_a_queue_comes_back_before_its_confirm(wire: Wire) -> None:
    wire.confirmed()
    wire.publish("", "nowhere", b"x", mandatory=True, correlation_id="c")
    returned = wire.get(methods.BasicReturn)
    assert (returned.code, returned.text, returned.routing_key, wire.body) == (312, "NO_ROUTE", "nowhere", b"x")
    assert wire.properties.correlation_id == "c"
    wire.get(methods.BasicAck)
    wire.publish("", "nowhere", b"x")
    wire.get(methods.BasicAck)
    assert wire.nothing_comes(methods.BasicReturn)


# refusals


@pytest.mark.parametrize(
    ("method", "code", "text"),
    [
        (methods.QueueDeclare(0, "none", True), 404, "NOT_FOUND - no queue 'none' in vhost"),
        (methods.ExchangeDeclare(0, "none", passive=True), 404, "NOT_FOUND - no exchange 'none' in vhost"),
        (methods.QueueBind(0, "q", "none", "k"), 404, "NOT_FOUND - no exchange 'none'"),
        (methods.QueueBind(0, "none", "amq.topic", "k"), 404, "NOT_FOUND - no queue 'none'"),
        (methods.BasicConsume(0, "none"), 404, "NOT_FOUND - no queue 'none'"),
        (methods.BasicGet(0, "none"), 404, "NOT_FOUND - no queue 'none'"),
        (methods.QueuePurge(0, "none"), 404, "NOT_FOUND - no queue 'none'"),
        (methods.QueueDeclare(0, "q", False, False), 406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q'"),
        (methods.QueueDeclare(0, "q", False, True, arguments={"x-max-length": 3}), 406, "inequivalent arg 'x-max-length' for queue 'q'"),
        (methods.QueueDeclare(0, "x", False, True, arguments={"x-max-length": "many"}), 406, "PRECONDITION_FAILED - invalid arg 'x-max"),
        (methods.ExchangeDeclare(0, "amq.topic", "fanout", durable=True), 406, "inequivalent arg 'type' for exchange 'amq.topic'"),
        (methods.QueueDeclare(0, "amq.mine", False, True), 403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix"),
        (methods.ExchangeDeclare(0, "amq.mine", durable=True), 403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix"),
        (methods.QueueBind(0, "q", "", "k"), 403, "ACCESS_REFUSED - operation not permitted on the default exchange"),
        (methods.BasicAck(7), 406, "PRECONDITION_FAILED - unknown delivery tag 7"),
        (methods.TxCommit(), 406, "PRECONDITION_FAILED - channel is not transactional"),
        (methods.QueueDelete(0, "q", False, True), 406, "PRECONDITION_FAILED - queue 'q' in vhost"),
        (methods.BasicConsume(0, "amq.rabbitmq.reply-to"), 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge"),
    ],
)
def test_what_does_not_fit_closes_the_channel_alone(wire: Wire, method: Any, code: int, text: str) -> None:
    wire.queue("q")
    wire.confirmed()
    wire.put("q", b"x")
    with pytest.raises(Closed) as closed:
        wire.ask(method, methods.TxRollbackOk)
    assert (closed.value.code, closed.value.is_connection) == (code, False)
    assert text in closed.value.text
    wire.open()
    assert wire.count("q") == 1


@pytest.mark.parametrize(
    ("method", "code"),
    [
        (methods.ChannelOpen(), 504),
        (methods.BasicPublish(0, "", "q", False, True), 540),
        (methods.BasicQos(5, 1), 540),
        (methods.ExchangeDeclare(0, "x", "no-such-kind", durable=True), 503),
    ],
)
def test_what_breaks_the_protocol_closes_the_connection(wire: Wire, method: Any, code: int) -> None:
    with pytest.raises(Closed) as closed:
        if isinstance(method, methods.BasicPublish):
            from nucleon.amqp.codec import command_frames

            wire.socket.sendall(command_frames(1, method, Properties(), b"", 8192))
        else:
            wire.send(method)
        wire.get(methods.TxRollbackOk)
    assert (closed.value.code, closed.value.is_connection) == (code, True)


def test_publishing_to_no_exchange_closes_the_channel(wire: Wire) -> None:
    wire.publish("none", "k", b"x")
    with pytest.raises(Closed, match="404 NOT_FOUND - no exchange 'none'"):
        wire.get(methods.BasicAck)


def test_a_wrong_password_is_refused_with_a_reason(url: str) -> None:
    with pytest.raises(Closed, match="403 ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN"):
        Wire(url, "wrong")


def test_an_unknown_virtual_host_is_refused(url: str) -> None:
    with pytest.raises(Closed, match=r"530 NOT_ALLOWED - .*vhost"):
        Wire(url.rpartition("/")[0] + "/no-such-vhost")


def test_another_protocol_is_answered_with_the_header_of_ours(url: str) -> None:
    import socket
    from urllib.parse import urlsplit

    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.recv(8) == b"AMQP\x00\x00\x09\x01"


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [("#", "", True), ("*", "", False), ("a.#.b", "a.b", True), ("a.#.b", "a.x.y.b", True), ("#.a.#", "x.a.y", True), ("a.*", "a", False)],
)
def test_patterns_of_topics(pattern: str, key: str, matches: bool) -> None:
    assert topic_matches(pattern, key) is matches
