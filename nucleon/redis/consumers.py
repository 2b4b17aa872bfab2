"""A worker's consumption of a group: so many entries at a time, each on a greenlet of its own, drained at the stop."""

import inspect
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Generic, TypeVar

from nucleon import green
from nucleon.errors import SetupError
from nucleon.redis.grace import spawn_apart
from nucleon.redis.groups import Delivery, Group
from nucleon.redis.measures import check_counts, check_seconds

T = TypeVar("T")
log = logging.getLogger("nucleon.redis")


def _check_handler(handle: Callable[..., object]) -> None:
    """Raise `SetupError` when it cannot be called with one value."""
    name = getattr(handle, "__qualname__", repr(handle))
    try:
        inspect.signature(handle).bind(None)
    except TypeError as error:
        raise SetupError(f"Consumption() calls {name} with one value: {error}") from None
    except ValueError:
        return  # written in C, and nobody knows what it takes


class Consumption(Generic[T]):
    """Handles the entries of a group until it is stopped.

    handle: called with each value; when it returns, the entry is acknowledged, when it raises, it is tried again later.
    concurrency: entries at a time. handle_seconds: deadline of each.
    """

    def __init__(self, group: Group[T], handle: Callable[[T], object], *, concurrency: int = 1, handle_seconds: float = 30.0) -> None:
        if not isinstance(group, Group):
            raise SetupError(f"Consumption() takes a group of a stream, such as orders.group('billing'), not {group!r}")
        _check_handler(handle)
        check_counts("consumption", concurrency=concurrency)
        check_seconds("consumption", handle_seconds=handle_seconds)
        self.group = group
        self._handle, self._concurrency, self._handle_seconds = handle, concurrency, handle_seconds
        self._running: set[green.Greenlet[..., Any]] = set()
        self._freed = green.Event()
        self._reader: green.Greenlet[..., Any] | None = None
        self._toucher: green.Greenlet[..., Any] | None = None

    def start(self) -> "Consumption[T]":
        """Begin, in this worker: from `app.on_start`."""
        if self._reader is None:
            self.group.stopping = False
            self._reader = spawn_apart(self._read)
            self._toucher = spawn_apart(self.group.keep_touching)
        return self

    def stop(self, within_seconds: float = 10.0) -> int:
        """Read no more, let what runs finish `within_seconds`, kill the rest (others get it); return how many were killed."""
        reader, self._reader = self._reader, None
        toucher, self._toucher = self._toucher, None
        if reader is None or toucher is None:
            return 0
        end = monotonic() + within_seconds
        self.group.stopping = True
        self._freed.set()
        try:
            reader.join(within_seconds)
            reader.kill()
            while self._running and (left := end - monotonic()) > 0:
                self._freed.clear()
                self._freed.wait(left)
            unfinished = tuple(self._running)
            for one in unfinished:
                one.kill()
            toucher.kill()
        finally:
            for one in (reader, toucher, *self._running):
                one.kill(block=False)  # whoever stops may be killed or out of time: nothing goes on behind him
        self.group.leave()
        return len(unfinished)

    def _read(self) -> None:
        while not self.group.stopping:
            free = self._concurrency - len(self._running)
            if free <= 0:
                self._freed.clear()
                self._freed.wait()
                continue
            try:
                found = self.group.next_deliveries(free)
            except Exception:
                log.exception("%s goes on after a second", self)
                green.sleep(1)
                continue
            for delivery in found:
                greenlet = spawn_apart(self._work, delivery)
                self._running.add(greenlet)
                greenlet.link(self._finished)

    def _work(self, delivery: Delivery[T]) -> None:
        with delivery, green.deadline(self._handle_seconds):
            self._handle(delivery.value)

    def _finished(self, greenlet: "green.Greenlet[..., Any]") -> None:
        self._running.discard(greenlet)
        self._freed.set()

    def __repr__(self) -> str:
        return f"<Consumption of {self.group!r}: {len(self._running)} of {self._concurrency} running>"
