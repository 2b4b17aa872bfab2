"""Clocks. This is the interpreted twin of `clock.pyx`, which asks the C library; both tell the same time."""

from time import monotonic as now
from time import time

__all__ = ["now", "second"]


def second() -> int:
    """Return the second of the wall clock."""
    return int(time())
