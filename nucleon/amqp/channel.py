"""One channel of one connection, with every method of the protocol. It dies once: whoever wants to go on opens another."""

import re
import struct
from collections.abc import Callable
from copy import copy
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from nucleon import green
from nucleon.amqp.acks import Acks
from nucleon.amqp.codec import (
    BY_NUMBER,
    MalformedFrame,
    Method,
    Properties,
    body_frames,
    decode_method,
    decode_properties,
    encode_properties,
    method_frame,
    methods,
)
from nucleon.amqp.codec.frames import BODY, HEADER, OVERHEAD
from nucleon.amqp.codec.malformed import UNEXPECTED_FRAME
from nucleon.amqp.codec.methods import REPLIES
from nucleon.amqp.codec.properties import PROPERTIES_AT, body_size_in
from nucleon.amqp.confirms import Confirm, Confirms
from nucleon.amqp.errors import AmqpError, AnswerLate, ChannelClosed, ConnectionBlocked, ConsumerCancelled, NoAnswer
from nucleon.amqp.message import Message
from nucleon.amqp.transport import HIGH_WATER_BYTES
from nucleon.green.waits import TIMED_OUT, waiter

if TYPE_CHECKING:
    from nucleon.amqp.connection import Connection

CONTENT_TOO_LARGE = 311
PERSISTENT = encode_properties(Properties(delivery_mode=2))
PREFIXES_KEPT = 1024  # encoded basic.publish methods; routing keys may be made of ids, so the cache is bounded

_DELIVER, _ACK, _NACK, _RETURN, _GET_OK = (
    kind.number.to_bytes(4, "big")
    for kind in (methods.BasicDeliver, methods.BasicAck, methods.BasicNack, methods.BasicReturn, methods.BasicGetOk)
)
_CARRIERS = frozenset([_DELIVER, _RETURN, _GET_OK])
_TAG_AND_BIT = struct.Struct(">QB")
_CONTENT_HEAD = struct.Struct(">BHIHHQ")  # frame head, class, weight, size of the body
_BODY_HEAD = struct.Struct(">BBHI")  # end of the header frame, head of the body frame
_ACK_FRAME = struct.Struct(">BHIIQBB")
_ACK_NUMBER, _NACK_NUMBER = (kind.number for kind in (methods.BasicAck, methods.BasicNack))


class Receiver(Protocol):
    """Who takes the messages of a consumer. All of it runs in the event loop and must not wait."""

    def take(self, message: Message) -> None: ...

    def cancelled(self, error: AmqpError) -> None: ...

    def ended(self, error: AmqpError) -> None: ...


class Channel:
    """A channel that any number of greenlets may use: publishes are one step each, questions take turns.

    `call` sends a method and returns the answer, `send` a method that has none: together every method of the protocol
    (`nucleon.amqp.codec.methods`). `publish`, `consume` and `settle` are the quick ways for what happens often.
    """

    def __init__(self, connection: "Connection", number: int) -> None:
        self.connection = connection
        self.number = number
        self.error: AmqpError | None = None
        self.confirms: Confirms | None = None
        self.receivers: dict[bytes, Receiver] = {}
        self.acks: Acks | None = None
        self._send: Callable[[bytes], None] = connection.transport.send
        self._pieces_end = 0
        self._waits = connection.waits
        self._turn = green.Lock()
        self._reply: Any = None
        self._expected: tuple[type[Method], ...] = ()
        self._prefixes: dict[tuple[str, str, bool], bytes] = {}
        self._body_max = connection.frame_max - OVERHEAD
        self._carrier = b""
        self._header = b""
        self._missing = 0
        self._parts: list[bytes] = []
        self._tags = 0
        self._is_flowing = True
        self.on_return: Callable[[methods.BasicReturn, Properties, bytes], None] | None = None  # for channels without confirms

    @property
    def is_open(self) -> bool:
        """Tell whether the channel may be used."""
        return self.error is None

    def check(self) -> None:
        """Raise what the channel died of."""
        if self.error is not None:
            raise copy(self.error)

    def call(self, method: Method, timeout: float | None = None) -> Any:
        """Send a method and return RabbitMQ's answer (a `Method`; for basic.get a `Message` or `BasicGetEmpty`).

        timeout: seconds, by default `answer_seconds`. Raises `ChannelClosed`, `ConnectionLost`, `NoAnswer`, `AnswerLate`. When the
        caller is killed or out of time, the channel is closed: a late answer must not reach the next caller.
        """
        patience = self.connection.answer_seconds if timeout is None else timeout
        until = monotonic() + patience
        if not self._turn.acquire(patience):
            raise NoAnswer(f"{_name(method)}: others waited for answers on this channel for {patience:g} s")
        try:
            self.check()
            left = green.seconds_left(max(until - monotonic(), 0.001))
            frame = method_frame(self.number, method)
            self._expected = REPLIES[type(method)]
            turn = self._reply = waiter()
            self._send(frame)
            try:
                reply = self._waits.wait(turn, left)
            except BaseException:
                self.abandon(f"who waited for the answer to {_name(method)} has gone")
                raise
            if reply is TIMED_OUT:
                raise self._unanswered(method, patience)
        finally:
            self._reply = None
            self._turn.release()
        if isinstance(reply, Exception):
            raise copy(reply)
        return reply

    def _unanswered(self, method: Method, patience: float) -> AmqpError:
        what = f"RabbitMQ did not answer {_name(method)}"
        self.abandon(what)
        left = green.remaining()
        if left is not None and left <= 0:
            return AnswerLate(f"{what} before the deadline")
        return NoAnswer(f"{what} within {patience:g} s")

    def send(self, method: Method) -> None:
        """Send a method that nobody answers. Raises what the channel died of."""
        self.check()
        self._send(method_frame(self.number, method))

    def confirm(self, window: int) -> None:
        """Ask for confirms of all publishes from now on; at most `window` of them may be open."""
        self.call(methods.ConfirmSelect())
        self.confirms = Confirms(self._waits, window)

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: bytes = PERSISTENT,
        *,
        is_mandatory: bool = False,
        timeout: float | None = None,
    ) -> Confirm | None:
        """Send a message; return its confirm when the channel has them, else None.

        properties: encoded (`encode_properties`). Waits up to `timeout` seconds while RabbitMQ is blocked, too many bytes are unsent
        or too many confirms open. Raises `ConnectionBlocked`, `ConnectionLost`, `ChannelClosed`, `ValueError`.
        """
        confirms = self.confirms
        is_large = len(body) > self._body_max
        if self.must_wait(is_large):
            self._wait_to_publish(timeout, is_large)
        if self.error is not None:
            raise copy(self.error)
        prefix = self._prefixes.get((exchange, routing_key, is_mandatory))
        if prefix is None:
            prefix = self._new_prefix(exchange, routing_key, is_mandatory)
        number, size = self.number, len(body)
        head = _CONTENT_HEAD.pack(HEADER, number, 12 + len(properties), 60, 0, size)
        if 0 < size <= self._body_max and len(properties) < 8000:
            data = b"".join((prefix, head, properties, _BODY_HEAD.pack(0xCE, BODY, number, size), body, b"\xce"))
        else:
            data = self._large(prefix, head, properties, body)
        confirm = None
        if confirms is not None:
            confirm = Confirm(self._waits, exchange, routing_key, body, is_mandatory)
            confirms.enter(confirm)
        self._send(data)
        if is_large:
            self._send_body(body)
        return confirm

    def must_wait(self, is_large: bool = False) -> bool:
        """Tell whether a publish would have to wait now."""
        connection, confirms = self.connection, self.confirms
        return (
            connection.blocked_reason is not None
            or connection.transport.unsent_bytes > HIGH_WATER_BYTES
            or (is_large and connection.transport.is_full(is_large))
            or (confirms is not None and len(confirms.open) >= confirms.window)
            or not self._is_flowing
        )

    def _wait_to_publish(self, timeout: float | None, is_large: bool) -> None:
        """Return when a publish may go out in the same step."""
        connection, confirms = self.connection, self.confirms
        patience = connection.wait_seconds if timeout is None else timeout
        until = monotonic() + patience
        while self.error is None:
            left = green.seconds_left(max(until - monotonic(), 0.0))
            if connection.blocked_reason is not None:
                if not connection.gate.wait(left):
                    raise ConnectionBlocked(f"RabbitMQ takes no messages: {connection.blocked_reason}")
            elif not self._is_flowing:
                if not connection.gate.wait(left):
                    raise ConnectionBlocked("RabbitMQ has stopped the flow of this channel")
            elif connection.transport.is_full(is_large):
                if not connection.transport.wait_for_room(left, is_large):
                    unsent = connection.transport.unsent_bytes + connection.transport.unsent_pieces_bytes
                    raise ConnectionBlocked(f"RabbitMQ read nothing for {patience:g} s: {unsent} bytes are unsent")
            elif confirms is not None and confirms.is_full():
                if not confirms.wait_for_room(left):
                    raise ConnectionBlocked(f"RabbitMQ confirmed none of {len(confirms.open)} messages for {patience:g} s")
            else:
                return

    def _new_prefix(self, exchange: str, routing_key: str, is_mandatory: bool) -> bytes:
        method = methods.BasicPublish(exchange=exchange, routing_key=routing_key, mandatory=is_mandatory)
        prefix = method_frame(self.number, method)
        if len(self._prefixes) >= PREFIXES_KEPT:
            self._prefixes.clear()
        self._prefixes[(exchange, routing_key, is_mandatory)] = prefix
        return prefix

    def _large(self, prefix: bytes, head: bytes, properties: bytes, body: bytes) -> bytes:
        """Return the beginning of a publish whose body takes several frames, or all of it when it fits in one or is empty."""
        if len(properties) + 12 > self._body_max:
            raise ValueError(f"the properties take {len(properties)} bytes and a frame holds {self._body_max}: shorten the headers")
        begin = b"".join((prefix, head, properties, b"\xce"))
        return begin if len(body) > self._body_max else begin + b"".join(body_frames(self.number, body, self.connection.frame_max))

    def _send_body(self, body: bytes) -> None:
        """Send a large body in pieces, between which other channels have their turn; this one goes on behind it."""
        self._pieces_end = self.connection.transport.send_pieces(body_frames(self.number, body, self.connection.frame_max))
        self._send = self._send_behind

    def is_sending(self) -> bool:
        """Tell whether pieces of a large message wait to be sent."""
        return self.connection.transport.pieces_sent < self._pieces_end

    def _send_behind(self, data: bytes) -> None:
        transport = self.connection.transport
        if self.is_sending():
            self._pieces_end = transport.send_pieces((data,))
        else:
            self._send = transport.send
            transport.send(data)

    def settle(self, tag: int, *, is_taken: bool, requeue: bool = False, multiple: bool = False) -> bool:
        """Send basic.ack or basic.nack for a delivery tag of this channel. False: the channel has gone, nothing was sent.

        After `gather_acks` an acknowledgement goes out with the others of this turn of the loop.
        """
        if self.error is not None:
            return False
        acks = self.acks
        if acks is not None and not multiple:
            if is_taken:
                if acks.add(tag) == 1:
                    self.connection.transport.send_soon(self._collected)
                return True
            acks.forget(tag)
        if is_taken:
            self._send(_ACK_FRAME.pack(1, self.number, 13, _ACK_NUMBER, tag, multiple, 0xCE))
        else:
            self._send(_ACK_FRAME.pack(1, self.number, 13, _NACK_NUMBER, tag, multiple | requeue << 1, 0xCE))
        return True

    def gather_acks(self) -> None:
        """Send the acknowledgements of a turn of the loop together from now on: before `consume`, when all deliveries are to be settled."""
        self.acks = Acks(self.number)

    def _collected(self) -> bytes:
        return self.acks.collected() if self.acks is not None and self.error is None else b""

    def consume(
        self, queue: str, receiver: Receiver, *, no_ack: bool = False, exclusive: bool = False, arguments: dict[str, Any] | None = None
    ) -> str:
        """Start a consumer and return its tag; the receiver gets messages from then on, maybe before this returns."""
        self._tags += 1
        tag = f"{self.number}.{self._tags}"
        self.receivers[tag.encode()] = receiver
        try:
            self.call(methods.BasicConsume(0, queue, tag, no_ack=no_ack, exclusive=exclusive, arguments=arguments or {}))
        except BaseException:
            self.receivers.pop(tag.encode(), None)
            raise
        return tag

    def cancel(self, tag: str) -> None:
        """Stop a consumer. What was delivered before RabbitMQ read this still reaches the receiver."""
        self.call(methods.BasicCancel(tag))
        self.receivers.pop(tag.encode(), None)

    def close(self) -> None:
        """Close the channel; unacknowledged messages go back to their queues. A dead channel stays dead."""
        if self.error is None:
            try:
                self.call(methods.ChannelClose(text="done"))
            except ChannelClosed:
                return
            self.connection.forget(self)
            self.fail(ChannelClosed("the channel was closed here"))

    def abandon(self, why: str, code: int = 0) -> None:
        """Close the channel without waiting; its number is used again when RabbitMQ has answered."""
        if self.error is None:
            self._send(method_frame(self.number, methods.ChannelClose(text=why[:200])))
            self.fail(ChannelClosed(f"the channel was closed here: {why}", code))

    def fail(self, error: AmqpError) -> None:
        """Die of `error`: everyone who waits on this channel hears of it. A second call does nothing."""
        if self.error is not None:
            return
        self.error = error
        if self._reply is not None:
            self._waits.wake(self._reply, error)
        if self.confirms is not None:
            self.confirms.fail(error)
        receivers, self.receivers = self.receivers, {}
        for receiver in receivers.values():
            receiver.ended(error)

    def take_frame(self, kind: int, payload: bytes) -> None:
        """Handle a frame for this channel, in the loop. Raises `MalformedFrame`, which ends the connection."""
        if self.error is not None:
            self._closing(kind, payload)
        elif kind == BODY:
            missing = self._missing - len(payload)
            if missing < 0 or not self._header:
                raise MalformedFrame(f"a body frame of {len(payload)} bytes where {self._missing} were expected", UNEXPECTED_FRAME)
            if missing or self._parts:
                self._missing = missing
                self._parts.append(payload)
                if missing:
                    return
                payload = b"".join(self._parts)
                self._parts = []
            self._complete(payload)
        elif kind == HEADER:
            if not self._carrier or self._header:
                raise MalformedFrame("a content header without its method", UNEXPECTED_FRAME)
            self._begin_content(payload)
        elif self._carrier:
            raise MalformedFrame("a method in the middle of a message", UNEXPECTED_FRAME)
        else:
            number = payload[:4]
            if number in _CARRIERS:
                self._carrier = payload
            elif number == _ACK:
                tag, bits = _two(payload)
                self._confirmed(tag, bits & 1 == 1, True)
            elif number == _NACK:
                tag, bits = _two(payload)
                self._confirmed(tag, bits & 1 == 1, False)
            else:
                self._take_method(decode_method(payload))

    def _begin_content(self, header: bytes) -> None:
        size = body_size_in(header)
        limit = self.connection.body_limit_bytes
        if size > limit:
            self._carrier = b""
            self.abandon(f"a message has {size} bytes, body_limit_bytes is {limit}", CONTENT_TOO_LARGE)
            return
        self._header = header
        self._missing = size
        if not size:
            self._complete(b"")

    def _complete(self, body: bytes) -> None:
        carrier, header = self._carrier, self._header
        self._carrier = self._header = b""
        number = carrier[:4]
        if number == _DELIVER:
            at = 5 + carrier[4]
            message = Message(self, carrier, at, header, body)
            if self.acks is not None:
                self.acks.delivered(message.delivery_tag)
            receiver = self.receivers.get(carrier[5:at])
            if receiver is not None:  # else: delivered while the cancel was under way, RabbitMQ takes it back with the channel
                receiver.take(message)
        elif number == _GET_OK:
            self._answer(methods.BasicGetOk, Message(self, carrier, 4, header, body))
        else:
            self._returned(decode_method(carrier), header, body)

    def _returned(self, method: Any, header: bytes, body: bytes) -> None:
        if self.confirms is not None:
            self.confirms.returned(method.code, method.text, method.exchange, method.routing_key, body)
        elif self.on_return is not None:
            self.on_return(method, decode_properties(header, PROPERTIES_AT), body)

    def _confirmed(self, tag: int, is_multiple: bool, is_taken: bool) -> None:
        if self.confirms is None:
            raise MalformedFrame("a confirm on a channel that did not ask for confirms", UNEXPECTED_FRAME)
        self.confirms.settle(tag, is_multiple, is_taken)

    def _take_method(self, method: Method) -> None:
        if isinstance(method, methods.ChannelClose):
            self._send(method_frame(self.number, methods.ChannelCloseOk()))
            self.connection.forget(self)
            asked = _method_name(method.method_class << 16 | method.method_id)
            self.fail(ChannelClosed(f"RabbitMQ closed the channel: {method.code} {method.text}", method.code, method.text, asked))
        elif isinstance(method, methods.BasicCancel):
            receiver = self.receivers.pop(method.consumer_tag.encode(), None)
            if receiver is not None:
                receiver.cancelled(ConsumerCancelled("RabbitMQ cancelled the consumer: its queue was deleted, or its leader has gone"))
        elif isinstance(method, methods.ChannelFlow):
            self._is_flowing = method.active
            self._send(method_frame(self.number, methods.ChannelFlowOk(method.active)))
            if method.active:
                self.connection.gate.open()
        else:
            self._answer(type(method), method)

    def _answer(self, kind: type[Method], reply: Any) -> None:
        if self._reply is None or kind not in self._expected:
            raise MalformedFrame(f"{kind.__name__} answers nothing that was asked on channel {self.number}", UNEXPECTED_FRAME)
        turn, self._reply = self._reply, None
        self._waits.wake(turn, reply)

    def _closing(self, kind: int, payload: bytes) -> None:
        """After our channel.close everything is dropped but its answer."""
        if kind in (HEADER, BODY):
            return
        method = decode_method(payload)
        if isinstance(method, methods.ChannelClose):  # both sides closed at once
            self._send(method_frame(self.number, methods.ChannelCloseOk()))
        elif isinstance(method, methods.ChannelCloseOk):
            self.connection.forget(self)

    def __repr__(self) -> str:
        state = "open" if self.error is None else f"closed: {self.error}"
        unconfirmed = f", {len(self.confirms.open)} unconfirmed" if self.confirms is not None else ""
        return f"<Channel {self.number} of {self.connection!r} {state}, {len(self.receivers)} consumers{unconfirmed}>"


def _two(payload: bytes) -> tuple[int, int]:
    try:
        tag, bits = _TAG_AND_BIT.unpack_from(payload, 4)
    except struct.error:
        raise MalformedFrame("a confirm is too short") from None
    return tag, bits


def _name(method: Method) -> str:
    return _method_name(method.number)


def _method_name(number: int) -> str:
    """Return a name as the specification writes it: QueueDeclare is queue.declare."""
    kind = BY_NUMBER.get(number)
    if kind is None:
        return ""
    first, *rest = re.findall("[A-Z][a-z]+", kind.__name__)
    return f"{first}.{'-'.join(rest)}".lower()
