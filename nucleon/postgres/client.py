"""`Postgres`: the resource that an application uses."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from greenlet import getcurrent

from nucleon.errors import Problem
from nucleon.hooks import query_ended
from nucleon.message import Request, Response
from nucleon.postgres.adapters import register_parameters
from nucleon.postgres.connect import Setup, opener
from nucleon.postgres.connection import install
from nucleon.postgres.cursors import Seal
from nucleon.postgres.errors import Away, OutcomeUnknown, TransactionMisused, problem_from
from nucleon.postgres.exchange import Parameters, Result
from nucleon.postgres.following import Following
from nucleon.postgres.hosts import Conninfo
from nucleon.postgres.listening import PAYLOAD_BYTES, Channels, Listener
from nucleon.postgres.paging import Paging
from nucleon.postgres.pools import pool_from
from nucleon.postgres.queries import Queries
from nucleon.postgres.replicas import ReplicatedPool, reading
from nucleon.postgres.session import (
    IDLE,
    Statement,
    give_back,
    is_retryable,
    pause_before_retry,
    run,
    send,
)
from nucleon.postgres.settings import Settings as PostgresSettings
from nucleon.postgres.streaming import Streaming
from nucleon.postgres.tables import Tables
from nucleon.postgres.transaction import Savepoint, Transaction, begin_from
from nucleon.secret import Secret

T = TypeVar("T")

RETRIES_OF_ONE_STATEMENT = 3


class Postgres(Tables, Paging, Queries, Streaming):
    """A PostgreSQL database behind a bounded pool of green connections.

    Nothing is opened before the first statement. Every method raises `Problem`s: 404 no row, 409 unique, foreign key or
    serialization, 422 check and not-null, 503 database away or pool exhausted, 504 deadline.
    """

    kind: ClassVar[str] = "postgres"
    Settings: ClassVar[type[PostgresSettings]] = PostgresSettings

    def __init__(self, *, setup: Setup | None = None, **defaults: Any) -> None:
        for secret in ("dsn", "cursor_key"):
            if isinstance(defaults.get(secret), str):
                defaults[secret] = Secret(defaults[secret])
        if "replicas" in defaults:
            defaults["replicas"] = tuple(Secret(one) if isinstance(one, str) else one for one in defaults["replicas"])
        super().__init__()
        install()
        register_parameters()
        self._setup = setup
        self._current: ContextVar[Transaction | None] = ContextVar("nucleon_postgres_transaction", default=None)
        self.configure(PostgresSettings(**defaults), self.kind)

    def configure(self, settings: PostgresSettings, name: str) -> None:
        """Use these settings under this name; before the first statement. Raises `SetupError` for a broken dsn."""
        for dsn in (*([settings.dsn] if settings.dsn is not None else ()), *settings.replicas):
            Conninfo(dsn.reveal())
        self.settings = settings
        self._resets_seldom = settings.reset == "seen"
        self.name = name
        self.pool = pool_from(settings, name, self._setup)
        self.around: Callable[[Request], Generator[None, Response, None]] | None = None
        if isinstance(self.pool, ReplicatedPool):
            seal = replace(Seal.of(settings, f"position of {name}"), seconds=settings.position_seconds)
            self.around = Following(name, self.pool, seal).around
        self._channels = Channels(name, opener(settings))

    def start(self) -> None:
        """Be ready in this worker; opens the minimum in the background."""
        self.pool.start()

    def stop(self) -> None:
        """Close what is idle now and what is lent out when it comes back; listeners end."""
        self._channels.stop()
        self.pool.stop()

    def health(self) -> None:
        """Make a round trip; raises `Unavailable` when the database is away."""
        self.execute("select")

    def __repr__(self) -> str:
        return f"<Postgres {self.name}: {self.pool!r}>"

    # Transactions and connections

    def transaction(self, *, isolation: str | None = None, read_only: bool = False, retries: int = 0) -> Transaction | Savepoint:
        """Begin a transaction for the `with` block; inside another, a savepoint.

        isolation: "read committed", "repeatable read" or "serializable". retries: how often a serialization failure or
        deadlock may be answered by running the statements again (see `Transaction`).
        """
        outer = self._transaction()
        if outer is None:
            begin = begin_from(isolation, read_only)
            return Transaction(self.pool, self._current, self.name, begin=begin, retries=retries, read_only=read_only)
        if isolation is not None or read_only or retries:
            raise TransactionMisused("a nested transaction is a savepoint: isolation, read_only and retries belong to the outermost one")
        return Savepoint(outer)

    def route_transaction(self, *, read_only: bool) -> Transaction | Savepoint:
        """Return the transaction of a route that says `transaction=True`."""
        return self.transaction(read_only=read_only, retries=self.settings.transaction_retries)

    def after_commit(self, action: Callable[[], object]) -> None:
        """Call `action` after the open transaction is committed, never when it rolls back; at once when none is open."""
        transaction = self._transaction()
        if transaction is None:
            action()
        else:
            transaction.after_commit.append(action)

    # Replicas and notifications

    @contextmanager
    def reading(self, after: int = 0) -> Iterator[None]:
        """Let the block read from a replica, outside requests; in a request a route's `read_only=True` does that.

        after: a `position()`; a replica that has not come so far is not asked. A write in the block is refused.
        """
        with reading(after):
            yield

    def position(self) -> int:
        """Return how far the primary's log has come: `reading(after=...)` sees everything that was committed before. 0: no replicas."""
        return self.pool.position() if isinstance(self.pool, ReplicatedPool) else 0

    def listen(self, channel: str, maximum: int = 1000) -> Listener:
        """Return an iterator over what is said on a channel from now on: `Notification`s, and a `Gap` where some may have been missed.

        All listeners of a worker share one connection of their own, which reconnects. A listener that leaves more than `maximum`
        unread gets a `Gap` in their place. The iterator ends when the resource stops; raises `DeadlineExceeded` at the deadline,
        `Unavailable` when the server cannot be reached within `wait_seconds`.
        """
        return self._channels.listen(channel, maximum, self.settings.wait_seconds)

    def notify(self, channel: str, payload: str = "") -> None:
        """Say something to all who listen on a channel: at once, or in a transaction when (and only if) it commits.

        PostgreSQL hands equal notifications of one transaction over once. Raises ValueError for a payload above 7999 bytes.
        """
        if len(payload.encode()) > PAYLOAD_BYTES:
            raise ValueError(f"a payload has at most {PAYLOAD_BYTES} bytes: put the thing into a table and its key into the payload")
        self.execute("select pg_notify(%s, %s)", channel, payload)

    @contextmanager
    def connection(self) -> Iterator[psycopg2.extensions.connection]:
        """Lend the bare psycopg2 connection (autocommit): the transaction's, or one that is cleaned (DISCARD ALL) afterwards."""
        transaction = self._transaction()
        if transaction is not None:
            transaction.require_usable()
            transaction.begin_now()
            transaction.forbid_replay()
            transaction.slot.touched = True
            yield transaction.slot.thing
            return
        slot = self.pool.take()
        slot.touched = True
        try:
            yield slot.thing
        except psycopg2.Error as error:
            raise problem_from(error, expired=slot.thing.expired) from error
        finally:
            give_back(self.pool, slot)

    def _transaction(self) -> Transaction | None:
        transaction = self._current.get()
        if transaction is None or transaction.done:
            return None
        if transaction.greenlet is not getcurrent():
            transaction.require_usable()
        return transaction

    def _run(self, statement: Statement, parameters: Parameters) -> Result:
        # The way of every statement: what it calls is measured (benchmarks/postgres.py), so it is one function.
        if self._current.get() is not None and (transaction := self._transaction()) is not None:
            return transaction.run(statement, parameters)
        attempt = 0
        pool = self.pool
        while True:
            slot = pool.take()
            clean = False
            try:
                result = send(slot, statement, parameters) if not query_ended.listeners else run(slot, statement, parameters, "", self.name)
                if slot.thing.get_transaction_status() != IDLE:
                    raise TransactionMisused("the statement began a transaction and left it open: use transaction()")
                clean = not slot.touched and self._resets_seldom and not slot.thing.suspect
                return result
            except Away as problem:
                if problem.may_have_written:
                    raise OutcomeUnknown("the connection was lost during a statement: the change may or may not have happened") from problem
                raise
            except Problem as problem:
                if attempt == RETRIES_OF_ONE_STATEMENT or not is_retryable(problem):
                    raise
            finally:
                if clean:
                    pool.give_back(slot, clean=True)
                else:
                    give_back(pool, slot)
            attempt += 1
            pause_before_retry(attempt)
