"""The SQL of a page: the rows behind a key, in its order."""

import re
from dataclasses import dataclass
from functools import lru_cache

from psycopg2 import sql

from nucleon.postgres.composing import Kept, fill, joined, name

Keys = tuple["Key", ...]


@dataclass(frozen=True, slots=True)
class Key:
    """A column that orders the rows, and its direction."""

    column: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """All that the text depends on. nulls: which values of the cursor's key are null; None: there is no cursor."""

    keys: Keys
    nulls: tuple[bool, ...] | None
    never_null: bool
    limit: int
    is_named: bool


def keys_from(order: str) -> Keys:
    """Return the keys of `"-price, id"`. Raises TypeError for anything else."""
    found = re.findall(r"\s*(-?)(\w+)\s*(?:,|$)", order)
    if ",".join(minus + column for minus, column in found) != re.sub(r"\s", "", order) or not found:
        raise TypeError(f'order= names columns, with - for descending, such as "-price, id", not {order!r}')
    return tuple(Key(column, minus == "-") for minus, column in found)


@lru_cache(maxsize=1024)
def text_of(statement: str, shape: Shape) -> tuple[Kept, tuple[int, ...]]:
    """Return the text for a page of the statement, and which of the cursor's values its places take, in order."""
    behind = _Behind(shape)
    template = "select * from (\n{statement}\n) as page_rows"
    if shape.nulls is not None:
        template += " where {condition}"
    composed = fill(
        template + " order by {order} limit {limit}",
        statement=sql.SQL(statement.strip().rstrip(";")),
        condition=sql.SQL("") if shape.nulls is None else behind.condition(),
        order=joined(", ", [fill("{column} desc" if key.descending else "{column}", column=name(key.column)) for key in shape.keys]),
        limit=sql.SQL(str(shape.limit)),
    )
    return Kept(composed), tuple(behind.used)


class _Behind:
    """Composes what holds for the rows behind a key; `used` collects which of its values stand in the text."""

    def __init__(self, shape: Shape) -> None:
        self.used: list[int] = []
        self._keys, self._never_null, self._is_named = shape.keys, shape.never_null, shape.is_named
        self._nulls = shape.nulls or ()

    def condition(self) -> sql.Composable:
        """Return the condition."""
        directions = {key.descending for key in self._keys}
        if not (self._never_null or len(self._keys) == 1) or any(self._nulls):
            return self._behind(0)
        if len(directions) == 1:
            columns = joined(", ", [name(key.column) for key in self._keys])
            values = joined(", ", [self._place(at) for at in range(len(self._keys))])
            return fill("({columns}) < ({values})" if True in directions else "({columns}) > ({values})", columns=columns, values=values)
        first = self._keys[0]  # an index may begin at the first key, whatever the others do
        bound = fill("{column} <= {value}" if first.descending else "{column} >= {value}", column=name(first.column), value=self._place(0))
        return fill("{bound} and {behind}", bound=bound, behind=self._behind(0))

    def _behind(self, at: int) -> sql.Composable:
        here = self._one_behind(at)
        if at == len(self._keys) - 1:
            return here
        column = name(self._keys[at].column)
        if self._nulls[at]:
            return fill("({here} or ({column} is null and {rest}))", here=here, column=column, rest=self._behind(at + 1))
        value = self._place(at)
        return fill("({here} or ({column} = {value} and {rest}))", here=here, column=column, value=value, rest=self._behind(at + 1))

    def _one_behind(self, at: int) -> sql.Composable:
        """Rows behind by this key alone: null comes last ascending, first descending."""
        key = self._keys[at]
        column = name(key.column)
        if self._nulls[at]:
            return fill("{column} is not null", column=column) if key.descending else fill("false")
        if key.descending:
            return fill("{column} < {value}", column=column, value=self._place(at))
        later = fill("{column} > {value}", column=column, value=self._place(at))
        is_last = at == len(self._keys) - 1  # unique, and by that never null
        return later if self._never_null or is_last else fill("({later} or {column} is null)", later=later, column=column)

    def _place(self, at: int) -> sql.Composable:
        self.used.append(at)
        return sql.Placeholder(f"nucleon_{at}") if self._is_named else sql.Placeholder()
