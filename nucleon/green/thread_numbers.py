"""The number of this thread. This is the interpreted twin of `thread_numbers.pyx`, which asks Python's C interface."""

from itertools import count
from typing import Any

from gevent.monkey import get_original

_numbers = count(1)


class _Numbered(get_original("_thread", "_local")):  # type: ignore[misc]
    def __init__(self) -> None:
        self.number = next(_numbers)


_here: Any = _Numbered()


def thread_number() -> int:
    """Return a number that this thread has for as long as it lives, and no other one before or after it."""
    number: int = _here.number
    return number
