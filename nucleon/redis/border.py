"""The border post: redis-py's errors become problems here and nowhere else.

What is raised is a problem and redis-py's error of that kind as well: `except redis.ConnectionError` means what it always meant.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions

from nucleon import green
from nucleon.errors import DeadlineExceeded, Problem, Unavailable

TIMER_SLACK_SECONDS = 0.005  # a socket time-out set from the deadline may fire this early



class Away(Unavailable, exceptions.ConnectionError):
    """503: the server is out of reach, full, or not in a state to answer. `__cause__` is redis-py's error."""


class Unanswered(Unavailable, exceptions.TimeoutError):
    """503: no reply within `socket_seconds`."""


AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
)
"""The server is out of reach, loading, a replica after a failover, or full: another moment may do."""

AWAY_REPLIES = re.compile(r"(?:Command # .* of pipeline caused error: )?(?:BUSY|MASTERDOWN|MISCONF|NOREPLICAS) ", re.DOTALL)
"""Error replies with the same meaning that redis-py has no class for."""


class Lost(exceptions.ConnectionError):
    """The connection ended before the reply came. `may_have_run`: False when the server cannot have seen the command."""

    def __init__(self, why: str, *, may_have_run: bool) -> None:
        super().__init__(why)
        self.may_have_run = may_have_run


class Silent(exceptions.TimeoutError):
    """No reply within `socket_seconds`: the command may have run, or may still run."""


class Crowded(exceptions.ConnectionError):
    """As many commands or bytes are on their way as the settings allow, and none was answered in time."""


class ReplyTooLarge(exceptions.RedisError):
    """A reply is larger than `reply_bytes`: read it in parts (GETRANGE, HSCAN, ZRANGE), or raise the setting."""


def problem_from(error: exceptions.RedisError) -> Problem | None:
    """Return what the client may be told, or None when the command itself is wrong (a fault of the program: 500)."""
    if isinstance(error, Problem):
        return None  # it passed here before
    if isinstance(error, exceptions.TimeoutError):
        left = green.remaining()
        if left is not None and left <= TIMER_SLACK_SECONDS:
            return DeadlineExceeded("Redis did not answer before the deadline")
        return Unanswered("Redis did not answer in time; the command may have been carried out")
    if isinstance(error, Lost) and error.may_have_run:
        return Away("Redis was lost before it answered; the command may have been carried out")
    if isinstance(error, Crowded):
        return Away(f"Redis is slow: {error}")
    if isinstance(error, AWAY) or AWAY_REPLIES.match(str(error)):
        return Away("Redis is not available")
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
