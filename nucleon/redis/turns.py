"""The queue inside the connection pool: the newest connection first, the oldest waiter first."""

from collections import deque
from queue import Empty, Full
from typing import Any

from nucleon import green


class _Waiter:
    __slots__ = ("is_served", "thing", "woken")

    def __init__(self) -> None:
        self.woken = green.Event()
        self.is_served = False
        self.thing: Any = None


class Turns:
    """Stands in for `queue.LifoQueue`, which lets a greenlet that gives a connection back take it again before those who wait.

    What is put goes to the first in line at once, so nobody can overtake. `queue` holds things only while nobody waits.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.queue: list[Any] = []
        self._line: deque[_Waiter] = deque()

    def qsize(self) -> int:
        """Return how many things could be taken without waiting."""
        return len(self.queue)

    def put_nowait(self, thing: Any) -> None:
        """Hand a thing to the first in line, or keep it. Raises `queue.Full`."""
        if self._line:
            waiter = self._line.popleft()
            waiter.thing, waiter.is_served = thing, True
            waiter.woken.set()
        elif len(self.queue) >= self.maximum:
            raise Full
        else:
            self.queue.append(thing)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take a thing, after those who came before. Raises `queue.Empty` at `timeout`, `DeadlineExceeded` at the deadline."""
        if self.queue:
            return self.queue.pop()
        if not block:
            raise Empty
        waiter = _Waiter()
        self._line.append(waiter)
        try:
            waiter.woken.wait(timeout)
        except BaseException:
            self._leave(waiter)
            raise
        if not waiter.is_served:
            self._leave(waiter)
            raise Empty
        return waiter.thing

    def _leave(self, waiter: _Waiter) -> None:
        if waiter.is_served:  # killed with the thing already in hand
            self.put_nowait(waiter.thing)
        else:
            self._line.remove(waiter)
