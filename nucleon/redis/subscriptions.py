"""One subscriber of a hub: a bounded queue, and what happens when it is full."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Generic, Literal, TypeVar, get_args

from nucleon import green
from nucleon.errors import NucleonError, SetupError
from nucleon.redis.measures import check_counts
from nucleon.redis.unreadable import UNREADABLE

T = TypeVar("T")
Overflow = Literal["drop_oldest", "drop_newest", "close"]
log = logging.getLogger("nucleon.redis")


@dataclass(frozen=True, slots=True)
class Message:
    """What was published. pattern: the one that it matched, when it came by a pattern."""

    channel: str
    data: bytes
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages are missing here. missed: how many did not fit into the queue; None: the connection was lost, nobody knows."""

    missed: int | None = None


class SubscriptionClosed(NucleonError):
    """No more messages will come: the subscription or its hub was closed, or its queue was full under the policy "close"."""


class Subscription(Generic[T]):
    """Messages in order, for one greenlet to take; a `Gap` stands where some are missing.

    maximum, maximum_bytes: of messages that wait. overflow: what gives way when they are reached. Close it, or use it with `with`.
    `is_overrun`: the policy "close" has struck; what had been queued is still given.
    """

    def __init__(
        self, read: Callable[[Message], T], leave: Callable[[], None], *, maximum: int, maximum_bytes: int, overflow: Overflow
    ) -> None:
        check_counts("every queue has a bound", maximum=maximum, maximum_bytes=maximum_bytes)
        if overflow not in get_args(Overflow):
            raise SetupError(f"overflow is one of {', '.join(get_args(Overflow))}, not {overflow!r}")
        self._read, self._leave = read, leave
        self.maximum, self.maximum_bytes, self.overflow = maximum, maximum_bytes, overflow
        self._items: deque[Message | Gap] = deque()
        self._bytes = self._queued = 0
        self._come = green.Event()
        self._closed = False
        self.is_overrun = False
        self.received = self.missed = self.unreadable = 0

    def get(self, timeout_seconds: float | None = None) -> T | Gap | None:
        """Wait for the next message or gap; None when `timeout_seconds` are over.

        Raises `SubscriptionClosed`, and `DeadlineExceeded` at the deadline.
        """
        end = None if timeout_seconds is None else monotonic() + timeout_seconds
        while True:
            while self._items:
                item = self._take()
                if isinstance(item, Gap):
                    return item
                try:
                    return self._read(item)
                except UNREADABLE as error:
                    self.unreadable += 1
                    log.warning("a message on %s is not what its subscriber reads: %s", item.channel, error)
            if self._closed:
                raise SubscriptionClosed("no more messages: the subscription is closed")
            self._come.clear()
            if not self._come.wait(None if end is None else max(0.0, end - monotonic())):
                return None

    def __iter__(self) -> Iterator[T | Gap]:
        return self

    def __next__(self) -> T | Gap:
        try:
            found = self.get()
        except SubscriptionClosed:
            raise StopIteration from None
        assert found is not None
        return found

    def close(self) -> None:
        """Leave the hub and drop what waits; a second call does nothing."""
        self._items.clear()
        self._bytes = self._queued = 0
        self.end()

    def end(self) -> None:
        """Leave the hub; what waits is still given."""
        if not self._closed:
            self._closed = True
            self._leave()
            self._come.set()

    def put(self, message: Message) -> None:
        """Queue a message, never waiting; called by the hub."""
        if self._closed:
            return
        self.received += 1
        if self._queued >= self.maximum or self._bytes + len(message.data) > self.maximum_bytes:
            if self.overflow == "close":
                self.is_overrun = True
                self.end()
                return
            if self.overflow == "drop_newest" or len(message.data) > self.maximum_bytes:
                self._miss(1)
                self._come.set()
                return
            self._make_room(len(message.data))
        self._items.append(message)
        self._queued += 1
        self._bytes += len(message.data)
        self._come.set()

    def put_gap(self) -> None:
        """Say that the connection was lost; called by the hub."""
        if self._closed:
            return
        if self._items and isinstance(self._items[-1], Gap):
            self._items[-1] = Gap()
        else:
            self._items.append(Gap())
        self._come.set()

    def _take(self) -> Message | Gap:
        item = self._items.popleft()
        if isinstance(item, Message):
            self._queued -= 1
            self._bytes -= len(item.data)
        return item

    def _make_room(self, size: int) -> None:
        dropped, is_gap_unknown = 0, False
        while self._queued >= self.maximum or self._bytes + size > self.maximum_bytes:
            item = self._take()
            if isinstance(item, Message):
                dropped += 1
            elif item.missed is None:
                is_gap_unknown = True
            else:
                dropped += item.missed
                self.missed -= item.missed
        self.missed += dropped
        self._items.appendleft(Gap(None if is_gap_unknown else dropped))

    def _miss(self, count: int) -> None:
        """Note messages that are missing at the end; gaps side by side become one, so they need no bound of their own."""
        self.missed += count
        last = self._items[-1] if self._items else None
        if not isinstance(last, Gap):
            self._items.append(Gap(count))
        elif last.missed is not None:
            self._items[-1] = Gap(last.missed + count)

    def __enter__(self) -> "Subscription[T]":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "overrun" if self.is_overrun else "closed" if self._closed else "open"
        return f"<Subscription {state}: {self._queued} of {self.maximum} waiting, {self.received} received, {self.missed} missed>"
