"""One queue: what waits in it, who consumes it, what happens when it is full or a message is too old."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from nucleon.testing.broker.messages import Message, ttl_seconds_of
from nucleon.testing.broker.refusal import ACCESS_REFUSED, NOT_IMPLEMENTED, PRECONDITION_FAILED, Refusal

WHOLE = ("x-message-ttl", "x-max-length", "x-max-length-bytes", "x-delivery-limit", "x-max-priority", "x-expires")
KINDS = ("classic", "quorum")


class Consumer(Protocol):
    """Who takes messages from a queue."""

    is_exclusive: bool
    priority: int
    offset: Any

    def may_take(self) -> bool: ...

    def take(self, message: Message) -> None: ...

    def cancelled(self) -> None: ...


@dataclass
class Queue:
    """One queue. owner: the connection that it is exclusive to; bury: takes (queue, message, reason) when a message dies;
    timed: told that there is a message that will be too old some time."""

    name: str
    durable: bool
    owner: object | None
    auto_delete: bool
    arguments: dict[str, Any]
    now: Callable[[], float]
    bury: Callable[["Queue", Message, str], None]
    timed: Callable[[], None]
    consumers: list[Consumer] = field(default_factory=list)
    unacked: int = 0
    was_consumed: bool = False
    used_at: float = field(default_factory=monotonic)
    _ready: deque[Message] = field(default_factory=deque)
    _position: int = 0

    def __post_init__(self) -> None:
        for name in WHOLE:
            value = self.arguments.get(name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise Refusal(PRECONDITION_FAILED, f"invalid arg '{name}' for queue '{self.name}': {value!r} is no whole number from 0 on")
        if self.arguments.get("x-expires") == 0:
            raise Refusal(PRECONDITION_FAILED, f"invalid arg 'x-expires' for queue '{self.name}': {{value_zero,0}}")
        self.use()
        if self.kind not in KINDS:
            raise Refusal(NOT_IMPLEMENTED, f"the fake broker has no queues of the kind {self.kind!r}, which '{self.name}' is to be")

    @property
    def kind(self) -> str:
        """classic or quorum."""
        return str(self.arguments.get("x-queue-type", "classic"))

    @property
    def ready(self) -> tuple[Message, ...]:
        """What waits, in order."""
        return tuple(self._ready)

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def next_expiry(self) -> float | None:
        """When the first message becomes too old; those behind it wait for it, as in RabbitMQ."""
        return self._ready[0].expires_at if self._ready else None

    def use(self) -> None:
        """Begin the time anew that an unused queue lasts: it was declared, asked about, got from, or its last consumer has left."""
        self.used_at = monotonic()
        if "x-expires" in self.arguments:
            self.timed()

    @property
    def lasts_until(self) -> float | None:
        """When the queue goes if nobody uses it, in real time: a clock moved on must not delete what a client believes is there."""
        expires = self.arguments.get("x-expires")
        return None if expires is None or self.consumers else self.used_at + expires / 1000

    def push(self, message: Message) -> bool:
        """Append a message; False when the queue is full and refuses."""
        if self.arguments.get("x-overflow", "drop-head") != "drop-head" and self._is_over(1, len(message.body)):
            if self.arguments["x-overflow"] == "reject-publish-dlx":
                self.bury(self, message, "maxlen")
            return False
        self._position += 1
        message.position = self._position
        if "x-max-priority" in self.arguments:
            message.priority = min(message.properties.priority or 0, self.arguments["x-max-priority"])
        ttls = [one for one in (ttl_seconds_of(message.properties), self._ttl_seconds()) if one is not None]
        message.expires_at = self.now() + min(ttls) if ttls else None
        self._insert(message)
        self.serve()
        while self._is_over(0, 0):
            self.bury(self, self._ready.popleft(), "maxlen")
        self.expire()
        if self.next_expiry is not None:
            self.timed()
        return True

    def pop(self) -> Message | None:
        """Take the first message that is not too old."""
        self.expire()
        if not self._ready:
            return None
        return self._ready.popleft()

    def give_back(self, message: Message) -> None:
        """Put a delivered message where it was; it is marked, and a quorum queue lets it die at its delivery limit."""
        message.redelivered = True
        if self.kind == "quorum":
            message.delivery_count += 1
            limit = self.arguments.get("x-delivery-limit")
            if limit is not None and message.delivery_count > limit:
                self.bury(self, message, "delivery_limit")
                return
        self._insert(message)

    def serve(self) -> None:
        """Hand out messages while consumers have room, each in turn."""
        while self._ready:
            consumer = self._next_consumer()
            message = self.pop() if consumer is not None else None
            if consumer is None or message is None:
                return
            consumer.take(message)

    def expire(self) -> None:
        """Let messages at the head die whose time is over."""
        now = self.now()
        while self._ready and (at := self._ready[0].expires_at) is not None and at <= now:
            self.bury(self, self._ready.popleft(), "expired")

    def purge(self) -> int:
        """Drop what waits and return how many that were."""
        count = len(self._ready)
        self._ready.clear()
        return count

    def deleted(self) -> int:
        """Drop what waits because the queue goes; return how many that were."""
        return self.purge()

    def has_work(self) -> bool:
        """Tell whether something waits that a consumer could take."""
        return bool(self.consumers and self._ready)

    def refuse_unless_fit(self, *, prefetch: int, no_ack: bool) -> None:
        """Refuse a consumer that this kind of queue cannot have."""

    def refuse_to_reject(self) -> None:
        """Refuse basic.nack and basic.reject when this kind of queue has no such thing."""

    def refuse_unless_free(self, *, is_exclusive: bool) -> None:
        """Refuse another consumer when one wants to be alone."""
        if any(other.is_exclusive for other in self.consumers) or (is_exclusive and self.consumers):
            raise Refusal(ACCESS_REFUSED, f"queue '{self.name}' in vhost '/' in exclusive use")

    def add_consumer(self, consumer: Consumer) -> None:
        """Let a consumer take messages from now on."""
        self.consumers.append(consumer)
        self.was_consumed = True
        self.serve()

    def _next_consumer(self) -> Consumer | None:
        candidates: Iterable[Consumer] = self.consumers
        if self.arguments.get("x-single-active-consumer"):
            candidates = self.consumers[:1]
        free = [one for one in candidates if one.may_take()]
        if not free:
            return None
        chosen = max(free, key=lambda one: one.priority)  # the first of the highest
        if not self.arguments.get("x-single-active-consumer"):
            self.consumers.remove(chosen)
            self.consumers.append(chosen)
        return chosen

    def _insert(self, message: Message) -> None:
        if not self._ready or self._ready[-1].order < message.order:
            self._ready.append(message)
            return
        at = next(index for index, other in enumerate(self._ready) if message.order < other.order)
        self._ready.insert(at, message)

    def _ttl_seconds(self) -> float | None:
        ttl = self.arguments.get("x-message-ttl")
        return None if ttl is None else ttl / 1000

    def _is_over(self, messages_more: int, bytes_more: int) -> bool:
        length, size = self.arguments.get("x-max-length"), self.arguments.get("x-max-length-bytes")
        if length is not None and len(self._ready) + messages_more > length:
            return True
        return size is not None and sum(len(one.body) for one in self._ready) + bytes_more > size
