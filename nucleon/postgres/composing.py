"""SQL texts composed once for each shape, kept, and reused. Identifiers only by `sql.Identifier`."""

from collections.abc import Iterable
from typing import Any

from psycopg2 import sql

Table = str | sql.Identifier


class Kept(sql.Composable):
    """A statement whose text is made on first use; quoting identifiers asks libpq, which costs more than many a query."""

    def __init__(self, composed: sql.Composable) -> None:
        super().__init__(composed)
        self._composed = composed
        self._text: str | None = None

    def as_string(self, context: Any) -> str:
        """Return the text. context: a connection, for its encoding."""
        if self._text is None:
            text: str = self._composed.as_string(context)
            self._text = text
        return self._text


class _Name(sql.Identifier):
    """An identifier in a statement with parameters, where psycopg2 takes a single `%` for one of them."""

    def as_string(self, context: Any) -> str:
        return str(super().as_string(context)).replace("%", "%%")


def name(text: str) -> sql.Composable:
    """Return a column's name, quoted."""
    return _Name(text)


def table_name(table: Table) -> sql.Composable:
    """Return a table's name, quoted: `"items"`, or `"shop.items"` in its schema; a name with a dot in it is a `sql.Identifier`."""
    return _Name(*(table.strings if isinstance(table, sql.Identifier) else table.split(".")))


def joined(separator: str, parts: Iterable[sql.Composable]) -> sql.Composable:
    """Return the parts with a separator between them."""
    return sql.SQL(separator).join(list(parts))


def fill(template: str, **parts: sql.Composable) -> sql.Composable:
    """Return the template with its `{places}` filled."""
    return sql.SQL(template).format(**parts)
