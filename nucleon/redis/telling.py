"""Tells who listens how long a command took and how it ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from nucleon import hooks


class Counting(Protocol):
    """A resource that counts its failures."""

    name: str
    failures: int


@contextmanager
def telling(resource: Counting, statement: str) -> Iterator[None]:
    """Count a failure in the block, and call the listeners of `hooks.query_ended` after it."""
    started, failed = monotonic(), None
    try:
        yield
    except Exception as error:
        resource.failures += 1
        failed = error
        raise
    finally:
        for listener in hooks.query_ended.listeners:
            listener(resource=resource.name, statement=statement, seconds=monotonic() - started, error=failed)
