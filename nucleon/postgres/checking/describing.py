"""Ask the server what a statement would give, without running it: libpq's Parse and Describe, which psycopg2 does not offer."""

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass

import psycopg2
import psycopg2._psycopg

from nucleon.postgres.connection import Connection

PGRES_COMMAND_OK = 1
CODE, MESSAGE, HINT, POSITION = ord("C"), ord("M"), ord("H"), ord("P")  # libpq's field codes, PostgreSQL manual 53.8
INDETERMINATE, AMBIGUOUS, SYNTAX, UNDEFINED_FUNCTION = "42P18", "42725", "42601", "42883"
PLACE = re.compile(r"%(?:(?P<percent>%)|(?P<plain>s)|\((?P<name>\w+)\)s|(?P<other>.|$))", re.DOTALL)
LIST_BEFORE = re.compile(r"\bin\s*$", re.IGNORECASE)

_libpq = ctypes.CDLL(psycopg2._psycopg.__file__)
for _name, _result, _arguments in (
    ("PQprepare", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p]),
    ("PQdescribePrepared", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
    ("PQresultStatus", ctypes.c_int, [ctypes.c_void_p]),
    ("PQresultErrorField", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int]),
    ("PQnfields", ctypes.c_int, [ctypes.c_void_p]),
    ("PQfname", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int]),
    ("PQftype", ctypes.c_uint, [ctypes.c_void_p, ctypes.c_int]),
    ("PQftable", ctypes.c_uint, [ctypes.c_void_p, ctypes.c_int]),
    ("PQftablecol", ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]),
    ("PQclear", None, [ctypes.c_void_p]),
):
    getattr(_libpq, _name).restype = _result
    getattr(_libpq, _name).argtypes = _arguments


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result. type, table: their OIDs (table 0: an expression); number: its place in that table."""

    name: str
    type: int
    table: int
    number: int


class Refused(Exception):
    """The server does not take the statement. position: in the statement's text as it was sent, 0 when none is told."""

    def __init__(self, code: str, message: str, hint: str, position: int) -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.position = code, message, hint, position


class Uncertain(Exception):
    """The server would need the values to tell."""


def placeholders(text: str) -> tuple[int, set[str], str | None]:
    """Return how many `%s` a statement has, the names of its `%(name)s`, and what else follows a `%`, when something does."""
    found = list(PLACE.finditer(text))
    stray = next((one[0] for one in found if one["other"] is not None), None)
    return sum(one["plain"] is not None for one in found), {one["name"] for one in found if one["name"]}, stray


def describe(connection: Connection, text: str, *, has_values: bool) -> list[Column]:
    """Return the columns that a statement gives. Raises `Refused`, or `Uncertain` when types depend on the values.

    psycopg2 writes values into the text, so `interval %s` and `%s is null` are right although no server could prepare them with
    parameters: first `$1` is tried, then NULL, then a quoted text.
    """
    if not has_values:
        return _described(connection, text)
    first: Refused | None = None
    for write in (_numbered(), lambda: "null", lambda: "'1'"):
        try:
            return _described(connection, filled(text, write))
        except Refused as refusal:
            first = first or refusal
            if refusal.code[:2] == "22" or refusal.code == AMBIGUOUS:
                raise Uncertain(refusal.message) from refusal
            if first.code not in (INDETERMINATE, SYNTAX, UNDEFINED_FUNCTION):
                break
    assert first is not None
    if first.code == INDETERMINATE:
        raise Uncertain(first.message) from first
    raise first


def filled(text: str, write: Callable[[], str]) -> str:
    """Return the statement with something in the place of each value; `%%` becomes `%`."""

    def put(found: re.Match[str]) -> str:
        if found["percent"]:
            return "%"
        return f"({write()})" if LIST_BEFORE.search(text[: found.start()]) else write()

    return PLACE.sub(put, text)


def _numbered() -> Callable[[], str]:
    numbers = iter(range(1, 65536))
    return lambda: f"${next(numbers)}"


def _described(connection: Connection, text: str) -> list[Column]:
    handle = connection.pgconn_ptr
    _refuse_error(_libpq.PQprepare(handle, b"", text.encode(), 0, None), clear=True)
    result = _libpq.PQdescribePrepared(handle, b"")
    try:
        _refuse_error(result, clear=False)
        return [
            Column(
                _libpq.PQfname(result, at).decode(), _libpq.PQftype(result, at), _libpq.PQftable(result, at), _libpq.PQftablecol(result, at)
            )
            for at in range(_libpq.PQnfields(result))
        ]  # fmt: skip
    finally:
        _libpq.PQclear(result)


def _refuse_error(result: int, *, clear: bool) -> None:
    try:
        if _libpq.PQresultStatus(result) != PGRES_COMMAND_OK:
            code, message, hint, position = (
                (_libpq.PQresultErrorField(result, one) or b"").decode() for one in (CODE, MESSAGE, HINT, POSITION)
            )
            raise Refused(code, message or "the connection to the database was lost", hint, int(position or 0))
    finally:
        if clear:
            _libpq.PQclear(result)
