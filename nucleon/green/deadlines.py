"""Deadlines: an instant of the monotonic clock that travels with the context. The only place that turns time into an exception."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

from nucleon.errors import DeadlineExceeded

deadline_at: ContextVar[float | None] = ContextVar("nucleon_deadline_at", default=None)
"""The instant (`time.monotonic()`) by which the work of this context has to be done; None: no deadline."""


def remaining() -> float | None:
    """Return the seconds left until the deadline (negative when it has passed), or None when there is none."""
    at = deadline_at.get()
    return None if at is None else at - monotonic()


def check() -> None:
    """Raise `DeadlineExceeded` when the deadline has passed."""
    at = deadline_at.get()
    if at is not None and monotonic() >= at:
        raise DeadlineExceeded("the deadline has passed")


def seconds_left(at_most: float | None = None) -> float | None:
    """Return how long a wait may take: the smaller of `at_most` and what the deadline leaves; None: for ever.

    Raises `DeadlineExceeded` when nothing is left.
    """
    at = deadline_at.get()
    if at is None:
        return at_most
    left = at - monotonic()
    if left <= 0:
        raise DeadlineExceeded("the deadline has passed")
    return left if at_most is None else min(left, at_most)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Give the block at most `seconds`; an earlier deadline of the surrounding context stays in force.

    What waits inside (locks, queues, pools, drivers) raises `DeadlineExceeded` when the time is over.
    """
    before = deadline_at.get()
    at = monotonic() + seconds
    token = deadline_at.set(at if before is None else min(at, before))
    try:
        yield
    finally:
        deadline_at.reset(token)
