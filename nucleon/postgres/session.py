"""One statement on one connection: run it, translate its errors, and leave the session clean."""

import random
import re
from collections.abc import Callable
from functools import lru_cache
from time import monotonic
from typing import Any

import gevent
import psycopg2
import psycopg2.extensions
from psycopg2.sql import Composable

from nucleon.errors import DeadlineExceeded, Problem
from nucleon.green import deadline_at
from nucleon.hooks import query_ended
from nucleon.pool import Pool, Slot
from nucleon.postgres.direct import execute
from nucleon.postgres.errors import Away, ConstraintFailed, StatementFailed, problem_from
from nucleon.postgres.exchange import Parameters, Result

Statement = str | Composable
IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE
RESET_SECONDS = 1.0
TOUCHES_SESSION = re.compile(
    r"(?:^|;)\s*(?:set|reset|load|do|call)\b(?!\s+(?:local|transaction|constraints)\b)"
    r"|\b(?:set_config|listen|prepare|temp|temporary|pg_(?:try_)?advisory_lock\w*|discard|declare)\b",
    re.IGNORECASE,
)

CONTROLS_TRANSACTION = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:begin|start\s+transaction|commit|end|rollback|abort|savepoint|release|prepare\s+transaction)\b",
    re.IGNORECASE | re.DOTALL,
)

READS = re.compile(r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*(?:select|with|values|table|show|explain)\b", re.IGNORECASE | re.DOTALL)
WRITES_TOO = re.compile(r"\b(?:insert|update|delete|merge|into)\b", re.IGNORECASE)


def parameters_from(args: tuple[Any, ...], named: dict[str, Any]) -> Parameters:
    """Return what psycopg2 takes: positional or named values, or None, when `%` in the statement means itself."""
    if args and named:
        raise TypeError("a statement takes positional (%s) or named (%(name)s) parameters, not both")
    return args or named or None


@lru_cache(maxsize=2048)
def controls_transaction(statement: str) -> bool:
    """Tell whether a statement begins or ends a transaction or savepoint."""
    return CONTROLS_TRANSACTION.match(statement) is not None


@lru_cache(maxsize=2048)
def touches_session(statement: str) -> bool:
    """Tell whether a statement may leave something behind in the session (settings, temporary tables, locks, LISTEN)."""
    return TOUCHES_SESSION.search(statement) is not None


def may_write(statement: str) -> bool:
    """Tell whether a statement is more than a plain read. (A select that calls a function which writes passes for one.)"""
    return READS.match(statement) is None or WRITES_TOO.search(statement) is not None


def run(
    slot: Slot, statement: Statement, parameters: Parameters = None, prefix: str = "", resource: str = "postgres"
) -> Result:
    """Run one statement and tell those who listen. Raises what `send` raises."""
    if not query_ended.listeners:
        return send(slot, statement, parameters, prefix)
    text = statement if isinstance(statement, str) else statement.as_string(slot.thing)
    started = monotonic()
    error: BaseException | None = None
    try:
        return send(slot, text, parameters, prefix)
    except BaseException as failure:
        error = failure.__cause__ or failure
        raise
    finally:
        for listener in query_ended.listeners:
            listener(resource=resource, statement=text, seconds=monotonic() - started, error=error)


def send(slot: Slot, statement: Statement, parameters: Parameters, prefix: str = "") -> Result:
    """Run one statement. Raises the problem that tells what went wrong; a deadline that is over sends nothing."""
    connection = slot.thing
    text = statement if isinstance(statement, str) else statement.as_string(connection)
    if not slot.touched and touches_session(text):
        slot.touched = True
    at = deadline_at.get()
    if at is not None and connection.grace_ends_at is None and monotonic() >= at:
        raise DeadlineExceeded("the deadline has passed before the statement was sent")
    connection.expired = False
    try:
        return execute(connection, prefix + text if prefix else text, parameters)
    except psycopg2.Error as failure:
        if connection.closed:
            connection.stop_watching()
        if failure.pgcode == "57014":
            connection.suspect = False  # the cancel has arrived: it cannot hit a later statement
        if failure.pgcode == "25006" and not connection.is_misplaced():
            raise StatementFailed("a read-only transaction cannot write") from failure
        problem = problem_from(failure, expired=connection.expired)
        if isinstance(problem, Away) and isinstance(failure, psycopg2.OperationalError) and not failure.pgcode:
            problem.may_have_written = may_write(text)  # with a code the server has said that it did not
        raise problem from failure
    except ValueError as failure:
        if "NUL" in str(failure):  # psycopg2 refuses it before anything is sent, so there is no code
            raise ConstraintFailed("a text value has a NUL character, which PostgreSQL cannot store") from failure
        raise


def rollback(slot: Slot) -> None:
    """End the transaction, deadline or not, within a second. Raises when it cannot: the connection has to be closed."""
    connection = slot.thing
    connection.grace_ends_at = monotonic() + RESET_SECONDS
    try:
        run(slot, "ROLLBACK")
    finally:
        connection.grace_ends_at = None


def cleaner(always: bool, setup: Callable[[Any], object] | None = None) -> Any:
    """Return the pool's `reset`: no transaction open, nothing of the last borrower left, or False (close it).

    setup: called again after DISCARD ALL, which undoes what it did.
    """

    def clean(slot: Slot) -> bool:
        connection = slot.thing
        if connection.closed or connection.suspect:
            return False
        if connection.get_transaction_status() != IDLE:
            rollback(slot)
        if slot.touched or always:
            connection.grace_ends_at = monotonic() + RESET_SECONDS
            try:
                connection.autocommit = True
                run(slot, "DISCARD ALL")
                if setup is not None:
                    setup(connection)
            finally:
                connection.grace_ends_at = None
        return not connection.closed

    return clean


def give_back(pool: Pool, slot: Slot) -> None:
    """Return a slot to its pool; a connection that is closed or doubtful is dropped, without waiting."""
    connection = slot.thing
    if connection.closed:
        pool.give_back(slot, "lost")
    elif connection.suspect:
        if connection.misplaced:
            pool.evict("read-only")  # a failover: the names may lead to another server now
        pool.give_back(slot, "read-only" if connection.misplaced else "cancelled late")
    else:
        pool.give_back(slot)


def pause_before_retry(attempt: int) -> None:
    """Wait a little, with jitter, so that the same transactions do not collide again."""
    seconds = random.uniform(0.002, 0.01) * 2**attempt
    at = deadline_at.get()
    if at is not None and monotonic() + seconds >= at:
        raise DeadlineExceeded("the deadline has passed between two tries of a transaction")
    gevent.sleep(seconds)


def is_retryable(problem: Problem) -> bool:
    """Tell whether the same transaction may succeed when tried again (40001, 40P01)."""
    return getattr(problem.__cause__, "pgcode", None) in ("40001", "40P01")
