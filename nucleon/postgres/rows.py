"""Rows become values: by column name into models, dataclasses and dicts, or as the single column they are."""

import datetime
import decimal
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import psycopg2.extensions
import psycopg2.extras

from nucleon.postgres.errors import StatementFailed

Row = tuple[Any, ...]
BUILTIN = (bytes, bytearray, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID, decimal.Decimal)
SINGLE = (int, str, float, bool, bytes, uuid.UUID, decimal.Decimal, datetime.datetime, datetime.date, datetime.time)


@lru_cache(maxsize=1024)
def reader(kind: Any, names: tuple[str, ...]) -> Callable[[Sequence[Row]], list[Any]]:
    """Return what turns rows with these column names into a list of `kind`. Columns that `kind` does not have are left out."""
    if kind is dict:
        return lambda rows: [dict(zip(names, row, strict=True)) for row in rows]
    if kind is tuple:
        return list
    many = list[kind]
    if _is_single(kind):
        return lambda rows: _converted([row[0] for row in rows], many)
    try:
        fields = {field.encode_name for field in msgspec.structs.fields(kind)}
    except TypeError:
        fields = set(getattr(kind, "__dataclass_fields__", None) or getattr(kind, "__annotations__", None) or names)
    if fields >= set(names):
        return lambda rows: _converted([dict(zip(names, row, strict=True)) for row in rows], many)
    kept = [(at, name) for at, name in enumerate(names) if name in fields]
    return lambda rows: _converted([{name: row[at] for at, name in kept} for row in rows], many)


def _is_single(kind: Any) -> bool:
    if isinstance(kind, type):
        return issubclass(kind, SINGLE) or not (
            issubclass(kind, (dict, msgspec.Struct)) or hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__annotations__")
        )
    return True


def _converted(values: list[Any], many: Any) -> list[Any]:
    try:
        result: list[Any] = msgspec.convert(values, many, builtin_types=BUILTIN)
    except msgspec.ValidationError as error:
        raise StatementFailed("a row does not fit the type it is read as") from error
    return result



class _Json:
    """Adapts a model or dict: its JSON, as a quoted string of unknown type, which fits json and jsonb."""

    def __init__(self, value: Any) -> None:
        self._quoted = psycopg2.extensions.QuotedString(msgspec.json.encode(value).decode())

    def prepare(self, connection: Any) -> None:
        self._quoted.prepare(connection)

    def getquoted(self) -> bytes:
        quoted: bytes = self._quoted.getquoted()
        return quoted


def register_parameters() -> None:
    """Teach psycopg2 the parameters that our users pass: models and dicts (as JSON), UUIDs, enums."""
    import enum

    psycopg2.extensions.register_adapter(dict, _Json)
    psycopg2.extensions.register_adapter(msgspec.Struct, _Json)
    psycopg2.extensions.register_adapter(enum.Enum, lambda member: psycopg2.extensions.adapt(member.value))
    psycopg2.extras.register_uuid()  # type: ignore[no-untyped-call]


def _bytes(value: Any, cursor: Any) -> bytes | None:
    view = psycopg2.extensions.BINARY(value, cursor)  # type: ignore[attr-defined]
    return None if view is None else bytes(view)


BYTEA = psycopg2.extensions.new_type((17,), "BYTES", _bytes)


def register_columns(connection: Any) -> None:
    """Teach one connection the column types that our users read: JSON by msgspec, UUID, bytes."""
    psycopg2.extras.register_default_json(connection, loads=msgspec.json.decode)
    psycopg2.extras.register_default_jsonb(connection, loads=msgspec.json.decode)
    psycopg2.extensions.register_type(BYTEA, connection)


def names_of(description: Iterable[Any]) -> tuple[str, ...]:
    """Return the column names of a cursor's description."""
    return tuple([column[0] for column in description])
