"""Greenlets and the things they wait for; every wait ends at the deadline of its context."""

from collections.abc import Callable
from contextvars import copy_context
from time import monotonic
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, cast

import gevent
import gevent.event
import gevent.lock
import gevent.queue
from gevent import Greenlet, GreenletExit

from nucleon.errors import DeadlineExceeded
from nucleon.green.deadlines import seconds_left

__all__ = ["Event", "Greenlet", "GreenletExit", "Lock", "Queue", "in_thread", "sleep", "spawn"]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


def spawn(function: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> "Greenlet[..., Any]":
    """Start `function` on a greenlet of its own, in a copy of this context (deadline, request id)."""
    return gevent.spawn(copy_context().run, function, *args, **kwargs)


def sleep(seconds: float = 0) -> None:
    """Let others run for `seconds`; raise `DeadlineExceeded` when the deadline comes first."""
    left = seconds_left()
    if left is None or seconds <= left:
        gevent.sleep(seconds)
        return
    gevent.sleep(left)
    raise DeadlineExceeded("the deadline has passed")


def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` on the hub's pool of native threads (a CPU burst, a blocking C call) and wait for it.

    A thread cannot be stopped: the function runs on after the deadline or a kill, and its result is dropped. When all threads are
    taken it waits for one, to the deadline too.
    """
    with gevent.Timeout(seconds_left(), False):  # type: ignore[arg-type]  # False means "end the block quietly"
        return cast(T, gevent.get_hub().threadpool.spawn(function, *args, **kwargs).get())
    raise DeadlineExceeded("the deadline has passed")


class Event:
    """A flag that greenlets wait for."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = gevent.event.Event()

    def set(self) -> None:
        """Wake everyone who waits, now and until `clear`."""
        self._event.set()

    def clear(self) -> None:
        """Make waiters wait again."""
        self._event.clear()

    def is_set(self) -> bool:
        """Tell whether the flag is up."""
        return bool(self._event.is_set())

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the flag. True: it is up. False: `timeout_seconds` are over. Raises `DeadlineExceeded`."""
        left = seconds_left(timeout_seconds)
        if self._event.wait(left):
            return True
        if timeout_seconds is None or (left is not None and left < timeout_seconds):
            raise DeadlineExceeded("the deadline has passed")
        return False


class Lock:
    """A mutual exclusion lock, fair in order of arrival."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = gevent.lock.BoundedSemaphore(1)

    def acquire(self, timeout_seconds: float | None = None) -> bool:
        """Take the lock. False: not within `timeout_seconds`. Raises `DeadlineExceeded`."""
        left = seconds_left(timeout_seconds)
        if self._lock.acquire(timeout=left):
            return True
        if timeout_seconds is None or (left is not None and left < timeout_seconds):
            raise DeadlineExceeded("the deadline has passed")
        return False

    def release(self) -> None:
        """Give the lock to the next in line."""
        self._lock.release()

    def locked(self) -> bool:
        """Tell whether somebody holds the lock."""
        return bool(self._lock.locked())

    def __enter__(self) -> "Lock":
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


class Queue(Generic[T]):
    """A bounded first-in first-out queue between greenlets.

    Raises the standard library's `queue.Empty` and `queue.Full` at `timeout_seconds`, `DeadlineExceeded` at the deadline.
    """

    __slots__ = ("_queue",)

    def __init__(self, maximum: int) -> None:
        if maximum < 1:
            raise ValueError("every queue has a bound: maximum must be at least 1")
        self._queue: gevent.queue.Queue[T] = gevent.queue.Queue(maximum)

    def __len__(self) -> int:
        return int(self._queue.qsize())

    def put(self, item: T, timeout_seconds: float | None = None) -> None:
        """Append `item`, waiting for room."""
        self._bounded(lambda left: self._queue.put(item, timeout=left), timeout_seconds)

    def get(self, timeout_seconds: float | None = None) -> T:
        """Take the first item, waiting for one."""
        return self._bounded(lambda left: self._queue.get(timeout=left), timeout_seconds)

    def put_nowait(self, item: T) -> None:
        """Append `item` or raise `queue.Full` at once."""
        self._queue.put_nowait(item)

    def get_nowait(self) -> T:
        """Take the first item or raise `queue.Empty` at once."""
        return self._queue.get_nowait()

    def _bounded(self, wait: Callable[[float | None], R], timeout_seconds: float | None) -> R:
        left = seconds_left(timeout_seconds)
        started = monotonic()
        try:
            return wait(left)
        except (gevent.queue.Empty, gevent.queue.Full):
            if left is not None and (timeout_seconds is None or left < timeout_seconds) and monotonic() - started >= left - 0.001:
                raise DeadlineExceeded("the deadline has passed") from None
            raise
