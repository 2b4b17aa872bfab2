"""One statement by psycopg2's own cursor: what it gave, and where its columns come from."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from nucleon.postgres.connection import Connection

Parameters = Sequence[Any] | Mapping[str, Any] | None
Row = tuple[Any, ...]
Columns = tuple[tuple[str, int], ...]
"""Name and type (its OID) of each column."""

_name_and_type = attrgetter("name", "type_code")
_new_tuple = tuple.__new__  # what NamedTuple's own __new__ calls, without the Python function around it


class Source(Protocol):
    """Knows where the columns of a result come from."""

    def origin(self, at: int) -> tuple[int | None, int | None]:
        """Return the OID of the table and the number of the column in it that column `at` is, nothing for what is computed."""


class Result(NamedTuple):
    """What a statement gave: columns, rows, how many rows were touched (-1: the command touches none), and the command's tag."""

    columns: Columns
    rows: list[Row]
    touched: int
    status: str | None
    source: Source


class Description:
    """psycopg2's description of the columns."""

    __slots__ = ("_columns",)

    def __init__(self, columns: Sequence[Any]) -> None:
        self._columns = columns

    def origin(self, at: int) -> tuple[int | None, int | None]:
        """Return table and column of a column."""
        column = self._columns[at]
        return column.table_oid, column.table_column


def execute(connection: Connection, statement: str, parameters: Parameters) -> Result:
    """Run a statement and return what its last command gave. Raises `psycopg2.Error`, and `DeadlineExceeded` when even the cancel hangs."""
    cursor = connection.cursor()
    cursor.execute(statement, parameters)
    description = cursor.description
    if description is None:
        return _new_tuple(Result, ((), [], cursor.rowcount, cursor.statusmessage, Description(())))
    columns = tuple(map(_name_and_type, description))
    return _new_tuple(Result, (columns, cursor.fetchall(), cursor.rowcount, cursor.statusmessage, Description(description)))


def prepare(connection: Connection) -> None:
    """Make a new connection ready for `execute`."""
