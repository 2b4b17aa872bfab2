"""What psycopg2 is taught: parameters that our users pass, columns that they read, and a quicker UTF-8."""

import codecs
import enum
from typing import Any

import msgspec
import psycopg2
import psycopg2.extensions
import psycopg2.extras

UTF8 = "nucleon_utf8"


class Json:
    """A parameter for a json or jsonb column, from anything that JSON can carry: a quoted string of unknown type."""

    __slots__ = ("_quoted",)

    def __init__(self, value: Any) -> None:
        self._quoted = psycopg2.extensions.QuotedString(msgspec.json.encode(value).decode())

    def prepare(self, connection: Any) -> None:
        self._quoted.prepare(connection)

    def getquoted(self) -> bytes:
        quoted: bytes = self._quoted.getquoted()
        return quoted


def _find_codec(name: str) -> codecs.CodecInfo | None:
    # psycopg2 calls the decoder of `encodings.utf_8`, a Python function, for every text value and column name: this one is C all the way
    return codecs.CodecInfo(codecs.utf_8_encode, codecs.utf_8_decode, name=UTF8) if name == UTF8 else None


def register_parameters() -> None:
    """Teach psycopg2, for the whole process, to pass models and dicts (as JSON), UUIDs and enums (their values)."""
    codecs.register(_find_codec)
    psycopg2.extensions.encodings["UTF8"] = UTF8
    psycopg2.extensions.register_adapter(dict, Json)
    psycopg2.extensions.register_adapter(msgspec.Struct, Json)
    psycopg2.extensions.register_adapter(enum.Enum, lambda member: psycopg2.extensions.adapt(member.value))
    psycopg2.extensions.register_adapter(Json, lambda value: value)
    psycopg2.extras.register_uuid()  # type: ignore[no-untyped-call]


def _bytes(value: Any, cursor: Any) -> bytes | None:
    view = psycopg2.BINARY(value, cursor)
    return None if view is None else bytes(view)


BYTEA = psycopg2.extensions.new_type((17,), "BYTES", _bytes)


def register_columns(connection: Any) -> None:
    """Teach one connection the column types that our users read: JSON by msgspec, UUID, bytes."""
    psycopg2.extras.register_default_json(connection, loads=msgspec.json.decode)
    psycopg2.extras.register_default_jsonb(connection, loads=msgspec.json.decode)
    psycopg2.extensions.register_type(BYTEA, connection)
