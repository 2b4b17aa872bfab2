"""Statements in, values out: `one`, `maybe_one`, `all`, `value`, `values`, `execute`, `many`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, TypeVar, overload

import msgspec
from psycopg2.sql import Composable

from nucleon.postgres.errors import NoRow, SeveralRows
from nucleon.postgres.exchange import Parameters, Result, Row
from nucleon.postgres.rows import column_reader, reader
from nucleon.postgres.session import Statement, parameters_from

T = TypeVar("T")


class Statements(ABC):
    """The part of `Postgres` that runs one statement at a time, in the open transaction or by itself."""

    def one(self, kind: type[T], statement: Statement, *args: Any, **named: Any) -> T:
        """Return the only row as `kind`. Raises `NoRow` (404) or `SeveralRows`."""
        result = self._run(statement, parameters_from(args, named) if named else args or None)
        row: T = reader(kind, result.columns).one(only(result.rows))
        return row

    def maybe_one(self, kind: type[T], statement: Statement, *args: Any, **named: Any) -> T | None:
        """Return the only row as `kind`, None when there is none. Raises `SeveralRows`."""
        result = self._run(statement, parameters_from(args, named))
        if not result.rows:
            return None
        row: T = reader(kind, result.columns).one(only(result.rows))
        return row

    def all(self, kind: type[T], statement: Statement, *args: Any, **named: Any) -> list[T]:
        """Return every row as `kind`."""
        result = self._run(statement, parameters_from(args, named))
        return reader(kind, result.columns).all(result.rows)

    @overload
    def value(self, kind: type[T], statement: Statement, /, *args: Any, **named: Any) -> T: ...
    @overload
    def value(self, statement: Statement, /, *args: Any, **named: Any) -> Any: ...
    def value(self, *args: Any, **named: Any) -> Any:
        """Return the first column of the only row, as `kind` when one is given first. Raises `NoRow` or `SeveralRows`."""
        kind, statement, args = _kind_first(args)
        result = self._run(statement, parameters_from(args, named))
        value = only(result.rows)[0]
        return value if kind is None or type(value) is kind else column_reader(kind, result.columns[0]).one((value,))

    @overload
    def values(self, kind: type[T], statement: Statement, /, *args: Any, **named: Any) -> list[T]: ...
    @overload
    def values(self, statement: Statement, /, *args: Any, **named: Any) -> list[Any]: ...
    def values(self, *args: Any, **named: Any) -> list[Any]:
        """Return the first column of every row, as `kind` when one is given first."""
        kind, statement, args = _kind_first(args)
        result = self._run(statement, parameters_from(args, named))
        if kind is None:
            return [row[0] for row in result.rows]
        return column_reader(kind, result.columns[0]).all(result.rows)

    def execute(self, statement: Statement, *args: Any, **named: Any) -> int:
        """Run a statement and return how many rows it touched."""
        return self._run(statement, parameters_from(args, named)).touched

    def many(self, statement: str, rows: Iterable[Any], page_size: int = 1000) -> int:
        """Run one statement for many rows: its only `%s` becomes a list of rows (`insert into t (a, b) values %s`).

        rows: tuples, lists, models or dicts (their values in order). Returns how many rows were touched. All pages or none.
        """
        before, mark, after = statement.partition("%s")
        if not mark or "%s" in after:
            raise TypeError("many() wants one %s, where the list of rows goes: insert into t (a, b) values %s")
        touched = 0
        iterator = iter(rows)
        with self.transaction():
            while page := [_row_from(row) for row in islice(iterator, page_size)]:
                places = ",".join(["(" + ",".join(["%s"] * len(row)) + ")" for row in page])
                touched += self._run(before + places + after, [value for row in page for value in row]).touched
        return touched

    @abstractmethod
    def transaction(self) -> AbstractContextManager[object]:
        """Begin a transaction, or a savepoint in the open one."""

    @abstractmethod
    def _run(self, statement: Statement, parameters: Parameters) -> Result:
        """Run a statement where it belongs: in the open transaction or on a connection of its own."""


def _kind_first(args: tuple[Any, ...]) -> tuple[Any, Statement, tuple[Any, ...]]:
    """Take apart the arguments of `value` and `values`: kind (None when it was left out), statement, parameters."""
    first = args[0]
    if isinstance(first, str | Composable):
        return None, first, args[1:]
    return first, args[1], args[2:]


def only(rows: list[Row]) -> Row:
    """Return the only row. Raises `NoRow` (404) or `SeveralRows`."""
    if len(rows) != 1:
        raise SeveralRows(f"one row was expected, {len(rows)} came") if rows else NoRow("no such row")
    return rows[0]


def _row_from(row: Any) -> tuple[Any, ...]:
    if isinstance(row, msgspec.Struct):
        return msgspec.structs.astuple(row)
    if isinstance(row, Mapping):
        return tuple(row.values())
    return tuple(row)
