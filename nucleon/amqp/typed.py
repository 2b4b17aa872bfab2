"""A queue whose bodies have a type."""

import logging
from collections.abc import Iterator
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from nucleon.amqp.confirms import Confirm
from nucleon.amqp.consumer import Consumer
from nucleon.amqp.message import Message

if TYPE_CHECKING:
    from nucleon.amqp.queue import Queue

log = logging.getLogger("nucleon.amqp")
T = TypeVar("T")


class TypedMessage(Generic[T]):
    """A message with its decoded body in `value`; used as `Message` is: `with order: save(order.value)`."""

    __slots__ = ("message", "value")

    def __init__(self, message: Message, value: T) -> None:
        self.message = message
        self.value = value

    def ack(self, *, strict: bool = False) -> bool:
        """See `Message.ack`."""
        return self.message.ack(strict=strict)

    def nack(self, *, requeue: bool = True, strict: bool = False) -> bool:
        """See `Message.nack`."""
        return self.message.nack(requeue=requeue, strict=strict)

    def __enter__(self) -> "TypedMessage[T]":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.message.__exit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<TypedMessage {self.value!r} in {self.message!r}>"


class TypedQueue(Generic[T]):
    """Bodies of one type, as JSON, checked when they are read.

    A body that does not fit never reaches the program: it goes to the queue's dead-letter queue with the reason in the header
    `x-nucleon-reason`; without one it is rejected (RabbitMQ drops it, or has its own dead-letter exchange) and logged.
    """

    def __init__(self, source: "Queue", kind: type[T]) -> None:
        self.queue = source
        self.kind = kind
        self.refused = 0
        self._decoder = msgspec.json.Decoder(kind)

    def put(self, value: T, **options: Any) -> None:
        """Put a value: see `Queue.put`. Raises `TypeError` for a value of another type."""
        self.queue.put(self._encoded(value), content_type="application/json", **options)

    def put_async(self, value: T, **options: Any) -> Confirm:
        """Put a value and return its confirm: see `Queue.put_async`."""
        return self.queue.put_async(self._encoded(value), content_type="application/json", **options)

    def _encoded(self, value: T) -> bytes:
        data = msgspec.json.encode(value)
        try:
            self._decoder.decode(data)
        except msgspec.ValidationError as error:
            raise TypeError(f"queue {self.queue.name!r} takes {self.kind}, not {value!r}: {error}") from None
        return data

    def get(self, timeout: float | None = None) -> TypedMessage[T]:
        """Take the next message whose body fits: see `Queue.get`."""
        until = None if timeout is None else monotonic() + timeout
        while True:
            found = self.decoded(self.queue.get(None if until is None else max(until - monotonic(), 0.0)))
            if found is not None:
                return found

    def __iter__(self) -> Iterator[TypedMessage[T]]:
        while True:
            yield self.get()

    def consume(self, consumer: Consumer) -> Iterator[TypedMessage[T]]:
        """Give the messages of a consumer of this queue: `for order in orders.consume(consumer)`."""
        for message in consumer:
            found = self.decoded(message)
            if found is not None:
                yield found

    def decoded(self, message: Message) -> TypedMessage[T] | None:
        """Return the message with its value, or None when the body does not fit and the message was put out of the way."""
        try:
            return TypedMessage(message, self._decoder.decode(message.body))
        except msgspec.DecodeError as error:  # ValidationError is one too
            self.refused += 1
            log.warning("queue %r: a body is no %s: %s", self.queue.name, getattr(self.kind, "__name__", self.kind), error)
            message.dead_letter(str(error))
            return None

    def __repr__(self) -> str:
        return f"<TypedQueue {self.queue.name!r} of {self.kind}, {self.refused} refused>"
