"""Greenlets that wait for the same thing under one coarse timer: a timer for each of them would cost more than what they wait for."""

from collections.abc import Callable
from time import monotonic
from typing import Any

# gevent's own waiter and loop: an Event or AsyncResult with a Timeout costs five times as much, for every confirm and connection
from gevent import get_hub
from gevent.hub import Waiter

TICK_SECONDS = 0.05
TIMED_OUT: Any = object()
"""What `wait` returns when the time is over."""


class Waits:
    """The waiting greenlets of one resource. A wait may end `TICK_SECONDS` late; short ones have a timer of their own."""

    __slots__ = ("_loop", "_open", "_ticking", "_timer")

    def __init__(self) -> None:
        self._loop: Any = get_hub().loop
        self._open: dict[Any, float] = {}
        self._timer = self._loop.timer(TICK_SECONDS, TICK_SECONDS)
        self._ticking = False

    def __len__(self) -> int:
        return len(self._open)

    def wait(self, waiter: Any, seconds: float | None) -> Any:
        """Wait until `wake` gives the waiter a value and return it, or `TIMED_OUT` after `seconds` (None: never)."""
        if seconds is None:
            return waiter.get()
        if seconds < 4 * TICK_SECONDS:
            return self._wait_exactly(waiter, seconds)
        if not self._ticking:
            self._ticking = True
            self._timer.start(self._tick)
        self._open[waiter] = monotonic() + seconds
        try:
            return waiter.get()
        finally:
            del self._open[waiter]

    def _wait_exactly(self, waiter: Any, seconds: float) -> Any:
        with self._loop.timer(max(seconds, 0.0)) as timer:
            timer.start(waiter.switch, TIMED_OUT, update=True)
            return waiter.get()

    def wake(self, waiter: Any, value: Any = None) -> None:
        """Let the greenlet behind a waiter go on in the next turn of the loop; nothing happens when it was killed or timed out."""
        self._loop.run_callback(waiter.switch, value)

    def later(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function in the next turn of the loop; it must not wait."""
        self._loop.run_callback(function, *arguments)

    def _tick(self) -> None:
        if not self._open:
            self._timer.stop()
            self._ticking = False
            return
        now = monotonic()
        for waiter in [waiter for waiter, end in self._open.items() if end <= now]:
            self._loop.run_callback(waiter.switch, TIMED_OUT)

    def close(self) -> None:
        """Stop the timer for good."""
        self._timer.close()


def waiter() -> Any:
    """Return something that one greenlet can wait with, once."""
    return Waiter()
