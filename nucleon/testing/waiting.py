"""Waiting for a fact in a test, with a bound."""

from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

T = TypeVar("T")


def eventually(fact: Callable[[], T], within_seconds: float = 10.0, every_seconds: float = 0.01) -> T:
    """Return the first true value of `fact()`; raise `AssertionError` when there is none `within_seconds`.

    For facts that nobody announces (a process that has gone, a connection that the server has closed).
    """
    end = monotonic() + within_seconds
    while not (value := fact()):
        if monotonic() >= end:
            raise AssertionError(f"not true within {within_seconds} s: {getattr(fact, '__qualname__', fact)}, last value {value!r}")
        sleep(every_seconds)
    return value
