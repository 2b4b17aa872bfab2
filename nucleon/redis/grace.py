"""A little time of one's own, for giving back what a request held: the request's deadline may have passed, or it was killed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from time import monotonic
from typing import Any

from nucleon import green

GRACE_SECONDS = 1.0


@contextmanager
def grace(seconds: float = GRACE_SECONDS) -> Iterator[None]:
    """Give the block `seconds`, whatever the deadline of the surrounding context says."""
    token = green.deadline_at.set(monotonic() + seconds)
    try:
        yield
    finally:
        green.deadline_at.reset(token)


def spawn_apart(function: Callable[..., Any], *args: Any) -> "green.Greenlet[..., Any]":
    """Start work that outlives its request: with no deadline, no request id and no transaction of the one who started it."""
    greenlet: green.Greenlet[..., Any] = Context().run(green.spawn, function, *args)
    return greenlet
