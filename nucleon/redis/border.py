"""The border post: redis-py's errors become problems here and nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions

from nucleon import green
from nucleon.errors import DeadlineExceeded, Problem, Unavailable

TIMER_SLACK_SECONDS = 0.005  # a socket time-out set from the deadline may fire this early

AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.ClusterDownError,
)
"""The server is out of reach, loading, a replica after a failover, or full: another moment may do."""

AWAY_REPLIES = ("MISCONF", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN")
"""Error replies with the same meaning that redis-py has no class for."""


def problem_from(error: exceptions.RedisError) -> Problem | None:
    """Return what the client may be told, or None when the command itself is wrong (a fault of the program: 500)."""
    left = green.remaining()
    if isinstance(error, exceptions.TimeoutError) and left is not None and left <= TIMER_SLACK_SECONDS:
        return DeadlineExceeded("Redis did not answer before the deadline")
    if isinstance(error, AWAY) or str(error).startswith(AWAY_REPLIES):
        return Unavailable("Redis is not available")
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Raise `Unavailable` or `DeadlineExceeded` in place of redis-py's errors of connection and time; the cause stays attached."""
    try:
        yield
    except exceptions.RedisError as error:
        problem = problem_from(error)
        if problem is None:
            raise
        raise problem from error
