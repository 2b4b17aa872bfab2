"""A stream: a queue that keeps what was published, and gives every consumer all of it from an offset on (https://www.rabbitmq.com/docs/streams)."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn

import msgspec

from nucleon.testing.broker.messages import Message
from nucleon.testing.broker.queues import Consumer, Queue
from nucleon.testing.broker.refusal import NOT_IMPLEMENTED, PRECONDITION_FAILED, Refusal

OFFSET = "x-stream-offset"
TAKEN = frozenset(
    {
        "x-queue-type",
        "x-max-length-bytes",
        "x-max-age",
        "x-stream-max-segment-size-bytes",
        "x-initial-cluster-size",
        "x-queue-leader-locator",
    }
)  # those about sizes and ages are taken and do nothing: a test's broker forgets everything anyway


@dataclass
class Stream(Queue):
    """A stream, of which messages are read and not taken; nothing in it waits, and its length is 0 as RabbitMQ 3.10 tells it."""

    _log: list[tuple[datetime, Message]] = field(default_factory=list)
    _next: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"for queue '{self.name}' in vhost '/'"
        for is_wrong, what in (
            (not self.durable, "non-durable"),
            (self.owner is not None, "exclusive-owner"),
            (self.auto_delete, "auto-delete"),
        ):
            if is_wrong:
                raise Refusal(PRECONDITION_FAILED, f"invalid property '{what}' {where}")
        for name in self.arguments:
            if name not in TAKEN:
                raise Refusal(PRECONDITION_FAILED, f"invalid arg '{name}' {where} of queue type rabbit_stream_queue")

    def push(self, message: Message) -> bool:
        """Keep a message, and give it to who waits at the end."""
        offset = len(self._log)
        headers = {**message.headers, OFFSET: offset}
        message.properties = msgspec.structs.replace(message.properties, headers=headers)
        self._log.append((datetime.now(UTC), message))
        self.serve()
        return True

    def add_consumer(self, consumer: Consumer) -> None:
        """Let a consumer read from its offset on; without one, what comes from now on."""
        self._next[id(consumer)] = self._begin(consumer.offset)
        super().add_consumer(consumer)

    def refuse_unless_fit(self, *, prefetch: int, no_ack: bool) -> None:
        """Refuse a consumer that acknowledges nothing or may hold any number."""
        if no_ack:
            self._refuse("automatic acknowledgement")
        if not prefetch:
            raise Refusal(PRECONDITION_FAILED, f"consumer prefetch count is not set for 'queue '{self.name}' in vhost '/''")

    def serve(self) -> None:
        """Give every consumer what it has room for."""
        for consumer in self.consumers:
            while self._next[id(consumer)] < len(self._log) and consumer.may_take():
                _, message = self._log[self._next[id(consumer)]]
                self._next[id(consumer)] += 1
                consumer.take(message.copy())
        self._next = {id(one): self._next[id(one)] for one in self.consumers}

    def has_work(self) -> bool:
        """Tell whether a consumer has not been given everything."""
        return any(self._next[id(consumer)] < len(self._log) for consumer in self.consumers)

    def pop(self) -> NoReturn:
        """Refuse: nothing is taken out of a stream."""
        self._refuse("basic.get")

    def purge(self) -> NoReturn:
        """Refuse: a stream keeps what it has."""
        self._refuse("queue.purge")

    def refuse_to_reject(self) -> None:
        """Refuse basic.nack and basic.reject."""
        self._refuse("basic.nack and basic.reject")

    def give_back(self, message: Message) -> None:
        """Do nothing: it is still there, and a consumer that comes again says where to begin."""

    def deleted(self) -> int:
        """Forget everything; what it has is not counted."""
        self._log.clear()
        return 0

    def _begin(self, offset: Any) -> int:
        last = len(self._log)
        if offset in (None, "next"):
            return last
        if offset == "first":
            return 0
        if offset == "last":
            return max(0, last - 1)
        if isinstance(offset, datetime):
            return next((place for place, (moment, _) in enumerate(self._log) if moment >= offset), last)
        if isinstance(offset, int):
            return max(0, offset)
        raise Refusal(NOT_IMPLEMENTED, f"the fake broker knows no {OFFSET} {offset!r}: first, last, next, a number or a time")

    def _refuse(self, what: str) -> NoReturn:
        raise Refusal(NOT_IMPLEMENTED, f"{what} not supported by stream queues queue '{self.name}' in vhost '/'")
