"""Rows without end: a server-side cursor, read as fast as the reader takes them and no faster."""

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from functools import partial
from itertools import count
from typing import Any, TypeVar

from psycopg2 import sql

from nucleon.green import deadline, deadline_at
from nucleon.pool import Pool, Slot
from nucleon.postgres.exchange import Parameters, Result
from nucleon.postgres.rows import reader
from nucleon.postgres.session import Statement, give_back, parameters_from, rollback, run
from nucleon.postgres.settings import Settings
from nucleon.postgres.statements import Statements
from nucleon.postgres.transaction import Transaction

T = TypeVar("T")
RunOne = Callable[..., Result]

_cursor_numbers = count(1)


class Streaming(Statements):
    """The part of `Postgres` that yields rows while they are read."""

    name: str
    pool: Pool
    settings: Settings
    _current: "ContextVar[Transaction | None]"

    def stream(
        self, kind: type[T], statement: Statement, *args: Any, batch_rows: int = 500, **named: Any
    ) -> Generator[T, None, None]:
        """Yield rows from a server-side cursor, `batch_rows` at a time; closing the iterator closes the cursor.

        It runs in the open transaction, or on a connection of its own until it ends or is closed. Without a deadline each batch may
        take `stream_seconds`.
        """
        parameters = parameters_from(args, named)
        if (transaction := self._transaction()) is not None:
            transaction.forbid_replay()
            yield from self._fetch(kind, transaction.run, statement, parameters, batch_rows)
            return
        slot = self.pool.take()
        try:
            run(slot, "BEGIN READ ONLY")
            yield from self._fetch(kind, partial(run, slot, resource=self.name), statement, parameters, batch_rows)
        finally:
            self._end_stream(slot)

    @abstractmethod
    def _transaction(self) -> Transaction | None:
        """Return the open transaction of this greenlet."""

    def _fetch(self, kind: type[T], run_one: RunOne, statement: Statement, parameters: Parameters, batch_rows: int) -> Iterator[T]:
        name = f"nucleon_{next(_cursor_numbers)}"
        declare = f"DECLARE {name} NO SCROLL CURSOR FOR "
        run_one(declare + statement if isinstance(statement, str) else sql.SQL(declare) + statement, parameters)
        complete = False
        try:
            while not complete:
                result = self._in_time(run_one, f"FETCH {batch_rows} FROM {name}")
                yield from reader(kind, result.columns).all(result.rows)
                complete = len(result.rows) < batch_rows
        finally:
            transaction = self._current.get()
            if transaction is not None and (complete or (transaction.failed is None and not transaction.done)):
                run_one(f"CLOSE {name}")

    def _in_time(self, run_one: RunOne, statement: str) -> Result:
        if deadline_at.get() is not None or not self.settings.stream_seconds:
            return run_one(statement)
        with deadline(self.settings.stream_seconds):
            return run_one(statement)

    def _end_stream(self, slot: Slot) -> None:
        touched, slot.touched = slot.touched, False
        try:
            if not slot.thing.closed:
                rollback(slot)
        except Exception:  # noqa: BLE001  the rows were read; a connection that does not answer is closed
            slot.thing.shut()
        finally:
            slot.touched = touched and slot.touched
            give_back(self.pool, slot)
