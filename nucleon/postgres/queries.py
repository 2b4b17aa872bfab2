"""Statements as functions: `get_item = db.query("select * from items where id = %s", Item)`, then `get_item(5).unique`."""

import re
from collections.abc import Iterator
from typing import Any, Generic, TypeVar, overload

from nucleon.postgres.exchange import Result
from nucleon.postgres.rows import reader
from nucleon.postgres.session import parameters_from
from nucleon.postgres.statements import Statements, only

T = TypeVar("T")

PLACES = re.compile(r"%(?:(%)|\((\w+)\)s|s)")


class Rows(Generic[T]):
    """What a query gave, in the form that is asked for."""

    __slots__ = ("_kind", "_result")

    def __init__(self, kind: Any, result: Result) -> None:
        self._kind = kind
        self._result = result

    @property
    def rows(self) -> list[T]:
        """Every row."""
        return reader(self._kind, self._result.columns).all(self._result.rows)

    @property
    def unique(self) -> T:
        """The only row. Raises `NoRow` (404) or `SeveralRows`."""
        row: T = reader(self._kind, self._result.columns).one(only(self._result.rows))
        return row

    @property
    def flat(self) -> list[Any]:
        """The values of the only column. Raises TypeError when the query gives several."""
        self._require_one_column()
        return [row[0] for row in self._result.rows]

    @property
    def value(self) -> Any:
        """The only value. Raises `NoRow` (404), `SeveralRows`, and TypeError when the query gives several columns."""
        self._require_one_column()
        return only(self._result.rows)[0]

    @property
    def touched(self) -> int:
        """How many rows the statement gave or changed."""
        return self._result.touched

    def __iter__(self) -> Iterator[T]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self._result.rows)

    def _require_one_column(self) -> None:
        names = [name for name, _ in self._result.columns]
        if len(names) != 1:
            raise TypeError(f"this query gives {len(names)} columns ({', '.join(names)}), not one")


class Query(Generic[T]):
    """A statement with its places studied once; called with their values it runs, in the open transaction when there is one."""

    def __init__(self, owner: Statements, statement: str, kind: Any) -> None:
        self.statement = statement
        self.kind = kind
        self._owner = owner
        places = [(named, bool(percent)) for percent, named in PLACES.findall(statement)]
        self.names = frozenset(named for named, percent in places if named)
        self.count = sum(1 for named, percent in places if not named and not percent)
        if self.names and self.count:
            raise TypeError(f"a statement has positional (%s) or named (%(name)s) places, not both: {statement}")

    def __call__(self, *args: Any, **named: Any) -> Rows[T]:
        if len(args) != self.count or named.keys() != self.names:
            raise TypeError(f"this query takes {self._wanted()}: {self.statement}")
        return Rows(self.kind, self._owner._run(self.statement, parameters_from(args, named)))

    def __repr__(self) -> str:
        return f"<Query {self.statement}>"

    def _wanted(self) -> str:
        return f"the values {', '.join(sorted(self.names))}" if self.names else f"{self.count} values"


class Queries(Statements):
    """The part of `Postgres` that makes functions of statements."""

    @overload
    def query(self, statement: str) -> Query[dict[str, Any]]: ...
    @overload
    def query(self, statement: str, kind: type[T]) -> Query[T]: ...
    def query(self, statement: str, kind: Any = dict) -> Query[Any]:
        """Return the statement as a function of its values; what it returns has `.rows`, `.unique`, `.flat`, `.value`.

        A literal `%` is `%%` when there are places for values. Raises TypeError for a wrong number of values when it is called.
        """
        return Query(self, statement, kind)
