"""Clocks and comparisons. This is the interpreted twin of `native.pyx`, which asks the C library; both give the same answers."""

from time import monotonic as now
from time import time

__all__ = ["begins", "ends", "move", "now", "number", "second"]


def second() -> int:
    """Return the second of the wall clock."""
    return int(time())


def number(text: str) -> int:
    """Return the number that at most 18 digits write; -1 for any other text."""
    return int(text) if 0 < len(text) < 19 and text.isascii() and text.isdigit() else -1


def begins(data: bytes, at: int, word: bytes) -> bool:
    """Tell whether `data[at:]` begins with a word."""
    return data.startswith(word, at)


def ends(data: bytes, word: bytes) -> bool:
    """Tell whether data ends with a word."""
    return data.endswith(word)


def move(place: bytes | bytearray, to: int, at: int, count: int) -> None:
    """Move `count` bytes inside of `place`, from `at` to `to`; the places may overlap."""
    assert isinstance(place, bytearray)  # compiled blocks are bytes that nobody has seen yet
    place[to : to + count] = place[at : at + count]
