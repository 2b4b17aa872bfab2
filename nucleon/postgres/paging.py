"""One page of a statement's rows by keyset: stable while rows come and go, and as quick on the last page as on the first.

A cursor holds the key of the last row of its page, and is signed: a client cannot make one up. Where a key may be null the condition
behind it says so, which no index helps; keys that are columns declared not null are compared as PostgreSQL's indexes are.
"""

import datetime
import decimal
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from nucleon.message import Page, PageQuery
from nucleon.postgres.cursors import Seal, Texts
from nucleon.postgres.errors import StatementFailed
from nucleon.postgres.exchange import Columns, Parameters, Row
from nucleon.postgres.keyset import Keys, Shape, keys_from, text_of
from nucleon.postgres.rows import reader
from nucleon.postgres.session import Statement, parameters_from
from nucleon.postgres.settings import Settings
from nucleon.postgres.statements import Statements

T = TypeVar("T")
MAY_MAKE_NULLS = re.compile(r"\b(?:left|right|full|outer|union|except|intersect|rollup|cube|grouping)\b", re.IGNORECASE)
NOT_NULL = "select bool_and(attnotnull) from pg_attribute where attrelid = %s and attnum = %s"


class Paging(Statements):
    """The part of `Postgres` that answers with pages."""

    settings: Settings

    def __init__(self) -> None:
        self._never_null: dict[tuple[str, Keys], bool] = {}

    def page(self, kind: type[T], query: PageQuery, statement: str, /, *args: Any, order: str, **named: Any) -> Page[T]:
        """Return the page that the client asks for: `db.page(Item, page, "select * from items", order="-price, id")`.

        order: columns of the statement, `-` for descending, the last of them unique and never null; nulls in others stand where PostgreSQL
        puts them. The statement has no limit of its own. A cursor that was not given out here, or has expired, is a 422.
        """
        keys = keys_from(order)
        seal = Seal.of(self.settings, f"{getattr(kind, '__qualname__', kind)} {order}")
        after = None if query.cursor is None else seal.opened(query.cursor, len(keys))
        nulls = None if after is None else tuple(text is None for text in after)
        shape = Shape(keys, nulls, self._never_null.get((statement, keys), False), query.fetch, is_named=bool(named))
        result = self._run(*_with_cursor(shape, statement, after, parameters_from(args, named)))
        places = _places(keys, result.columns)
        if (statement, keys) not in self._never_null and len(self._never_null) < 1000:  # not for texts that are made anew each time
            self._never_null[statement, keys] = self._is_never_null(statement, [result.source.origin(at) for at in places])
        rows = result.rows[: query.limit]
        items = reader(kind, result.columns).all(rows)
        if len(result.rows) == len(rows):
            return Page(items)
        last = _key_of(rows[-1], places)
        if last[-1] is None or last == _key_of(result.rows[query.limit], places):
            raise StatementFailed(f"two rows have the same key ({order}), or it ends in null: the last column of order= has to be unique")
        return Page(items, seal.cursor(last))

    def _is_never_null(self, statement: str, origins: list[tuple[int | None, int | None]]) -> bool:
        """Whether all key columns are declared not null, and nothing in the statement could make nulls of them."""
        if MAY_MAKE_NULLS.search(statement) or not all(table for table, _ in origins):
            return False
        return all(self._run(NOT_NULL, origin).rows[0][0] for origin in origins)


def _with_cursor(shape: Shape, statement: str, after: Texts | None, parameters: Parameters) -> tuple[Statement, Parameters]:
    """Return the statement for the rows behind a key, with its parameters."""
    if parameters is None and after is not None:
        statement = statement.replace("%", "%%")  # it had none, so its % meant themselves
    text, used = text_of(statement, shape)
    if after is None:
        return text, parameters
    if isinstance(parameters, Mapping):
        return text, {**parameters, **{f"nucleon_{at}": after[at] for at in used}}
    return text, [*(parameters or ()), *(after[at] for at in used)]


def _places(keys: Keys, columns: Columns) -> list[int]:
    names = [column for column, _ in columns]
    missing = [key.column for key in keys if key.column not in names]
    if missing:
        raise StatementFailed(f"order= names {', '.join(missing)}, which the statement does not give")
    return [names.index(key.column) for key in keys]


def _key_of(row: Row, places: Sequence[int]) -> Texts:
    return [_key_text(row[at]) for at in places]


def _key_text(value: Any) -> str | None:
    """Return a value as PostgreSQL reads it back, exactly."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (int, float, decimal.Decimal, uuid.UUID)):
        return str(value)
    raise StatementFailed(f"pages cannot be ordered by a {type(value).__name__}")
