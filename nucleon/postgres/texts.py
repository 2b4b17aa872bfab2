"""Values that psycopg2 hands over as PostgreSQL's text, because their type is the user's own: composite rows, arrays of enums and domains.

The type of the field says what they are. Grammar: PostgreSQL manual 8.16.6 (composites) and 8.15.6 (arrays).
"""

import datetime
import re
import types
import typing
from collections.abc import Callable
from typing import Any

import msgspec
import psycopg2.extensions

Text = Callable[[str | None], Any]

COMPOSITE_ITEM = re.compile(r'(?:"((?:[^"\\]|""|\\.)*)"|([^,()"]*))(,|$)', re.DOTALL)
ESCAPED = re.compile(r'\\(.)|""', re.DOTALL)
CASTS: dict[type, Any] = {
    datetime.datetime: psycopg2.extensions.PYDATETIME,
    datetime.date: psycopg2.extensions.PYDATE,
    datetime.time: psycopg2.extensions.PYTIME,
    datetime.timedelta: psycopg2.extensions.PYINTERVAL,
}


def reader_of_text(kind: Any) -> Text | None:
    """Return what reads a value of this type from PostgreSQL's text; None: the text is the value, or converts by itself.

    Lists read arrays, records with fields in the order of the composite's columns read composites.
    """
    kind = _without_none(kind)
    if typing.get_origin(kind) in (list, set, frozenset):
        return _array(kind)
    if isinstance(kind, type) and _is_record(kind):
        return _composite(kind)
    return None


def _array(kind: Any) -> Text:
    item = _element(typing.get_args(kind)[0])
    whole = typing.get_origin(kind)

    def read(text: str | None) -> Any:
        if text is None:
            return None
        return whole(item(part) for part in psycopg2.extensions.STRINGARRAY(text, None))

    return read


def _composite(kind: Any) -> Text:
    from nucleon.postgres.rows import fields_of

    elements = [(_element(field.kind)) for field in fields_of(kind)]

    def read(text: str | None) -> Any:
        if text is None:
            return None
        parts = composite_parts(text)
        if len(parts) != len(elements):
            raise msgspec.ValidationError(f"a composite of {len(parts)} columns is no {kind.__name__}, which has {len(elements)} fields")
        return kind(*[element(part) for element, part in zip(elements, parts, strict=True)])

    return read


def _element(kind: Any) -> Text:
    """Return what reads one part of an array or composite: each is text there, whatever it is."""
    inner = reader_of_text(kind)
    if inner is not None:
        return inner
    plain = _without_none(kind)
    if plain is bool:
        return lambda text: msgspec.convert(None if text is None else text in ("t", "true"), kind)
    cast = CASTS.get(plain)
    if cast is not None:
        return lambda text: msgspec.convert(cast(text, None), kind)
    return lambda text: msgspec.convert(text, kind, strict=False) if plain is not str else msgspec.convert(text, kind)


def composite_parts(text: str) -> list[str | None]:
    """Return the columns of a composite's text, `(1,"a, b",)`. Raises `msgspec.ValidationError` for another text."""
    if text[:1] != "(" or text[-1:] != ")":
        raise msgspec.ValidationError("this is no composite value")
    parts: list[str | None] = []
    at, body = 0, text[1:-1]
    while True:
        found = COMPOSITE_ITEM.match(body, at)
        if found is None:
            raise msgspec.ValidationError("this is no composite value")
        quoted, bare, end = found.groups()
        if quoted is not None:
            parts.append(ESCAPED.sub(lambda escape: escape[1] or '"', quoted))
        else:
            parts.append(bare or None)  # nothing between two commas is null; an empty text is quoted
        if not end:
            return parts
        at = found.end()


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        return members[0] if len(members) == 1 else kind
    return kind


def _is_record(kind: type) -> bool:
    return issubclass(kind, msgspec.Struct) or hasattr(kind, "__dataclass_fields__") or hasattr(kind, "_fields")
