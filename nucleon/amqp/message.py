"""A message that was delivered: what it says, and what becomes of it."""

import struct
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from nucleon.amqp.codec import MalformedFrame, Properties, decode_properties
from nucleon.amqp.codec.properties import PROPERTIES_AT
from nucleon.amqp.codec.tables import read_short_string
from nucleon.amqp.errors import AmqpError, StaleDelivery

if TYPE_CHECKING:
    from nucleon.amqp.channel import Channel
    from nucleon.amqp.queue import Queue

T = TypeVar("T")

ATTEMPTS_HEADER = "x-nucleon-attempts"
"""How often `retry` has put the message off."""

REASON_HEADER = "x-nucleon-reason"
QUEUE_HEADER = "x-nucleon-queue"
"""Why `dead_letter` was called, and where the message was."""

_TAG_AND_BIT = struct.Struct(">QB")


class Message:
    """One delivered message. It is acknowledged once, over the channel that it came by.

    `with message:` acknowledges when the block ends well; an exception gives the message to the queue's dead-letter exchange (or
    drops it when there is none), and goes on.

    When the channel has gone, RabbitMQ has put the message back and delivers it again: `ack` and the others then send nothing and
    return False, or raise `StaleDelivery` when asked to be strict.
    """

    __slots__ = (
        "_at", "_carrier", "_channel", "_header", "_place", "_properties", "body", "delivery_tag", "is_settled", "redelivered", "source",
    )  # fmt: skip

    def __init__(self, channel: "Channel", carrier: bytes, at: int, header: bytes, body: bytes) -> None:
        self.delivery_tag, redelivered = _TAG_AND_BIT.unpack_from(carrier, at)
        self.redelivered = redelivered & 1 == 1
        self.body = body
        self.is_settled = False
        self.source: Any = None
        self._channel = channel
        self._carrier = carrier
        self._at = at
        self._header = header
        self._properties: Properties | None = None
        self._place: tuple[str, str] | None = None

    @property
    def properties(self) -> Properties:
        """What the publisher said about the message. Raises `MalformedFrame` when that cannot be read."""
        if self._properties is None:
            self._properties = decode_properties(self._header, PROPERTIES_AT)
        return self._properties

    @property
    def headers(self) -> dict[str, Any]:
        """The publisher's and RabbitMQ's headers; empty when there are none."""
        return self.properties.headers or {}

    @property
    def exchange(self) -> str:
        """The exchange that it was published to; empty for the default exchange."""
        return self._published_to()[0]

    @property
    def routing_key(self) -> str:
        """The routing key that it was published with."""
        return self._published_to()[1]

    def _published_to(self) -> tuple[str, str]:
        if self._place is None:
            exchange, at = read_short_string(self._carrier, self._at + 9)
            self._place = exchange, read_short_string(self._carrier, at)[0]
        return self._place

    @property
    def is_stale(self) -> bool:
        """Tell whether the channel it came by has gone, so that RabbitMQ delivers it again."""
        return self._channel.error is not None

    @property
    def attempts(self) -> int:
        """How often the message was tried before: by `retry`, by dead-lettering (x-death) and by requeueing in a quorum queue."""
        headers = self.headers
        counted = headers.get(ATTEMPTS_HEADER, 0)
        returned = headers.get("x-delivery-count", 0)
        return sum(count for count in (counted, returned) if isinstance(count, int))

    def json(self, kind: type[T] | Any = Any) -> Any:
        """Return the body decoded from JSON, checked against a type. Raises `msgspec.DecodeError`."""
        return msgspec.json.decode(self.body, type=kind)

    def ack(self, *, strict: bool = False) -> bool:
        """Tell RabbitMQ that the message is done. False: it was settled before, or is stale. strict: raise `StaleDelivery` then."""
        return self._settle(True, False, strict)

    def nack(self, *, requeue: bool = True, strict: bool = False) -> bool:
        """Give the message back to its queue, or with requeue=False to the queue's dead-letter exchange (dropped when it has none)."""
        return self._settle(False, requeue, strict)

    def reject(self, *, requeue: bool = False, strict: bool = False) -> bool:
        """Refuse the message: `nack` with the other default."""
        return self._settle(False, requeue, strict)

    def retry(self, delay: float = 0.0) -> None:
        """Put the message off: a copy comes to its queue after `delay` seconds, with `attempts` one higher, then this one is done.

        Raises what `Queue.put` raises; the message is still unsettled then. A crash in between leaves both: at least once.
        """
        source = self._came_from()
        headers = {**self.headers, ATTEMPTS_HEADER: self.headers.get(ATTEMPTS_HEADER, 0) + 1}
        source.put(self.body, delay=delay, **_copied(self.properties, headers))
        self.ack()

    def dead_letter(self, reason: str) -> None:
        """Give the message to the dead-letter queue of its queue, with the reason in the header `x-nucleon-reason`.

        A queue without one: `reject`. Raises what `Queue.put` raises; the message is still unsettled then.
        """
        source = self._came_from()
        if source.dead_letter is None:
            self.reject()
            return
        headers = {**self.headers, REASON_HEADER: reason[:2000], QUEUE_HEADER: source.name}
        source.client.queue(source.dead_letter, declare=False).put(self.body, **_copied(self.properties, headers))
        self.ack()

    def reply(self, body: Any, **properties: Any) -> None:
        """Answer a question (`client.rpc`) and return when RabbitMQ has the answer. Raises `AmqpError` when nobody asked."""
        asked = self.properties
        if asked.reply_to is None:
            raise AmqpError(f"{self!r} asks for no answer: it has no reply_to")
        client = self._came_from().client
        client.publish("", asked.reply_to, body, correlation_id=asked.correlation_id, **{"delivery_mode": 1, **properties})

    def _came_from(self) -> "Queue":
        if self.source is None:
            raise AmqpError("this message came over a channel of its own: only messages of a Queue know where they belong")
        source: Queue = self.source.queue
        return source

    def _settle(self, is_taken: bool, requeue: bool, strict: bool) -> bool:
        if self.is_settled:
            return False
        if not is_taken and self.source is not None and self.source.queue.kind == "stream":
            is_taken = True  # RabbitMQ ends the whole connection at basic.nack of a stream; a stream keeps its messages anyway
        sent = self._channel.settle(self.delivery_tag, is_taken=is_taken, requeue=requeue)
        self.is_settled = True
        source = self.source
        if source is not None:
            source.settled(self, sent)
        if strict and not sent:
            raise StaleDelivery(f"the channel of this message has gone ({self._channel.error}); RabbitMQ delivers it again")
        return sent

    def __enter__(self) -> "Message":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.ack()
        else:  # a killed greenlet is no fault of the message: it goes back
            self.nack(requeue=not issubclass(kind, Exception))

    def __repr__(self) -> str:
        try:
            exchange, key = self._published_to()
        except (AmqpError, MalformedFrame):
            exchange, key = "?", "?"
        state = "settled" if self.is_settled else "stale" if self.is_stale else "open"
        again = ", redelivered" if self.redelivered else ""
        return f"<Message {self.delivery_tag} to {exchange!r} with key {key!r}, {len(self.body)} bytes, {state}{again}>"


def _copied(properties: Properties, headers: dict[str, Any]) -> dict[str, Any]:
    """Return properties for a copy: the time to live was that of the first one, the user is who publishes now."""
    kept = {name: getattr(properties, name) for name in properties.__struct_fields__}
    return {**kept, "headers": headers, "expiration": None, "user_id": None, "cluster_id": None}
