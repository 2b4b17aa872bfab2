"""Clocks and comparisons. This is the interpreted twin of `native.pyx`, which asks the C library; both give the same answers."""

from time import monotonic as now
from time import time

__all__ = ["begins", "ends", "now", "second"]


def second() -> int:
    """Return the second of the wall clock."""
    return int(time())


def begins(data: bytes, at: int, word: bytes) -> bool:
    """Tell whether `data[at:]` begins with a word."""
    return data.startswith(word, at)


def ends(data: bytes, word: bytes) -> bool:
    """Tell whether data ends with a word."""
    return data.endswith(word)
