"""A `Postgres` whose every change goes when the test ends: one connection, one transaction around the whole test.

The code under test notices nothing: its own transactions run as they do in production (BEGIN, COMMIT and ROLLBACK become savepoints on the
way to the server), a single statement that fails undoes only itself, deferred constraints are looked at when it commits, and `after_commit`
runs when its outermost transaction ends. What cannot be had on one connection, and needs `committed_db`: two connections at once, other
isolation levels, LISTEN, and a `now()` that moves.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import psycopg2
import psycopg2.extensions

from nucleon.pool import Limits, PermanentFailure, Pool, PoolExhausted, SelfDeadlock, Slot
from nucleon.postgres import Postgres, TransactionMisused
from nucleon.postgres.connect import check, opener
from nucleon.postgres.connection import Connection, is_alive
from nucleon.postgres.session import cleaner

IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE
IN_TRANSACTION = psycopg2.extensions.TRANSACTION_STATUS_INTRANS
IN_ERROR = psycopg2.extensions.TRANSACTION_STATUS_INERROR

BEGIN = re.compile(r"\s*(?:begin|start\s+transaction)\b(?P<how>[^;]*)(?:;\s*|$)", re.IGNORECASE)
END = re.compile(r"\s*(?P<verb>commit|end|rollback|abort)(?:\s+(?:work|transaction))?\s*;?\s*$", re.IGNORECASE)
DISCARD = re.compile(r"\s*discard\s+all\s*;?\s*$", re.IGNORECASE)

OUTER, INNER, CHECK = "nucleon_test_transaction", "nucleon_test_statement", "nucleon_test_check"
LOOK_AT_CONSTRAINTS = f"savepoint {CHECK}; set constraints all immediate; rollback to savepoint {CHECK}; release savepoint {CHECK}"
UNDO_OUTER, UNDO_INNER = (f"rollback to savepoint {name}; release savepoint {name}" for name in (OUTER, INNER))
DISCARD_IN_TRANSACTION = (  # what DISCARD ALL stands for (PostgreSQL manual), without what a transaction forbids
    "close all; set session authorization default; reset all; deallocate all; unlisten *; select pg_advisory_unlock_all(); "
    "discard plans; discard temp; discard sequences"
)

T = TypeVar("T")


class OneTransaction(Connection):
    """A connection inside the test's transaction. `is_inside`: the code under test has begun one, as it believes."""

    is_inside = False
    is_read_only = False

    def get_transaction_status(self) -> int:
        """Return what it would be without the transaction around it."""
        status = super().get_transaction_status()
        return IDLE if status == IN_TRANSACTION and not self.is_inside else status

    def send(self, text: str) -> None:
        """Run a statement of our own, past the rewriting."""
        cursor = super().cursor(cursor_factory=psycopg2.extensions.cursor)
        try:
            cursor.execute(text)
        finally:
            cursor.close()

    def has_failed(self) -> bool:
        """Tell whether the server refuses everything but rolling back."""
        return super().get_transaction_status() == IN_ERROR

    def require_open(self) -> None:
        """Raise `TransactionMisused` when the test's own transaction was ended."""
        if super().get_transaction_status() == IDLE:
            self.shut()
            raise TransactionMisused("the statement ended the transaction around the test: take the fixture committed_db for this test")


class Rewriting(psycopg2.extensions.cursor):
    """A cursor of `OneTransaction`: transactions become savepoints, and a single statement gets one around it."""

    verb: str | None = None

    @property
    def statusmessage(self) -> str | None:
        """Return the command's tag, of the command that was meant."""
        return self.verb if self.verb is not None else psycopg2.extensions.cursor.statusmessage.__get__(self)

    def execute(self, query: Any, vars: Any = None) -> None:
        """Run a statement as if there were no transaction around the test."""
        connection = cast(OneTransaction, self.connection)
        text = query if isinstance(query, str) else query.decode() if isinstance(query, bytes) else query.as_string(connection)
        if began := BEGIN.match(text):
            self._begin(connection, began["how"], text[began.end() :], vars)
        elif ended := END.match(text):
            self._end(connection, ended["verb"].lower())
        elif DISCARD.match(text):
            connection.send(DISCARD_IN_TRANSACTION)
            self.verb = "DISCARD ALL"
        elif connection.is_inside:
            super().execute(text, vars)
        else:
            self._alone(connection, text, vars)
        connection.require_open()

    def _begin(self, connection: OneTransaction, how: str, rest: str, vars: Any) -> None:
        connection.send(f"savepoint {OUTER}")
        connection.is_inside = True
        connection.is_read_only = "read only" in how.lower()
        if connection.is_read_only:
            connection.send("set local transaction_read_only = on")
        if rest.strip():
            super().execute(rest, vars)
        else:
            self.verb = "BEGIN"

    def _end(self, connection: OneTransaction, verb: str) -> None:
        is_commit = verb in ("commit", "end") and not connection.has_failed()
        self.verb = "COMMIT" if is_commit else "ROLLBACK"
        if not connection.is_inside:
            return
        connection.is_inside = False
        if not is_commit or connection.is_read_only:
            connection.send(UNDO_OUTER)
            return
        try:
            connection.send(f"{LOOK_AT_CONSTRAINTS}; release savepoint {OUTER}")
        except psycopg2.Error:
            if not connection.closed:
                connection.send(UNDO_OUTER)
            raise

    def _alone(self, connection: OneTransaction, text: str, vars: Any) -> None:
        connection.send(f"savepoint {INNER}")
        try:
            super().execute(text, vars)
            connection.require_open()
            connection.send(f"{LOOK_AT_CONSTRAINTS}; release savepoint {INNER}")
        except psycopg2.Error:
            if not connection.closed:
                connection.send(UNDO_INNER)
            raise


class OneConnection(Pool):
    """A pool of the one connection that is inside the transaction; `stop` keeps it, for an app may be started again in the same test."""

    def __init__(self, database: Postgres) -> None:
        self.connection: OneTransaction | None = None
        self._opener = opener(database.settings, database._setup)
        super().__init__(
            name=database.name,
            create=self._begin,
            close=self._let_go,
            is_alive=is_alive,
            check=check,
            reset=cleaner(database.settings.reset == "always", database._setup),
            limits=Limits(maximum=1, idle_seconds=0, lifetime_seconds=0, wait_seconds=database.settings.wait_seconds),
        )

    def take(self) -> Slot:
        """Lend the connection. Raises `SelfDeadlock` that says what a test can do when it is in use."""
        try:
            return super().take()
        except (SelfDeadlock, PoolExhausted) as problem:
            raise SelfDeadlock(
                "the code under test wants a second connection while it holds one (a stream and a query, greenlets, streams left open): "
                "the fixture db has only one, take committed_db for this test"
            ) from problem

    def end(self) -> None:
        """Roll everything back."""
        self.stop()
        if self.connection is not None and not self.connection.closed:
            try:
                self.connection.send("rollback")
            finally:
                self.connection.shut()

    def _let_go(self, connection: Connection) -> None:
        if connection is not self.connection or connection.closed:
            connection.shut()

    def _begin(self) -> Connection:
        if self.connection is not None and not self.connection.closed:
            return self.connection  # the app was stopped and is started again
        if self.connection is not None:
            raise PermanentFailure(
                TransactionMisused(
                    "the connection of this test was closed (its greenlet was killed, the server ended it, or a cancel came late), and its "
                    "transaction went with it: take the fixture committed_db for this test"
                )
            )
        opened = self._opener()
        opened.__class__ = OneTransaction
        connection = cast(OneTransaction, opened)
        connection.send("begin")
        connection.cursor_factory = Rewriting
        self.connection = connection
        return connection


@contextmanager
def rolled_back(*databases: Postgres) -> Iterator[None]:
    """Let these databases forget, when the block ends, everything that is done with them in it."""
    pools = [OneConnection(one) for one in databases]
    before = [one.pool for one in databases]
    for database, pool in zip(databases, pools, strict=True):
        database.pool = pool
    try:
        yield
    finally:
        for database, own in zip(databases, before, strict=True):
            database.pool = own
        for pool in pools:
            pool.end()
