"""psycopg2's exceptions for what libpq tells: the class of the SQLSTATE, with `pgcode`, `pgerror` and `diag` as psycopg2 sets them."""

from functools import lru_cache
from types import SimpleNamespace

import psycopg2
import psycopg2.errors

FIELDS = {
    "severity": "S", "severity_nonlocalized": "V", "sqlstate": "C", "message_primary": "M", "message_detail": "D", "message_hint": "H",
    "statement_position": "P", "internal_position": "p", "internal_query": "q", "context": "W", "schema_name": "s", "table_name": "t",
    "column_name": "c", "datatype_name": "d", "constraint_name": "n", "source_file": "F", "source_line": "L", "source_function": "R",
}  # fmt: skip
"""`diag`'s attributes and libpq's field codes (PQresultErrorField)."""

CLASSES = {
    "0A": psycopg2.NotSupportedError, "20": psycopg2.ProgrammingError, "21": psycopg2.ProgrammingError, "22": psycopg2.DataError,
    "23": psycopg2.IntegrityError, "24": psycopg2.InternalError, "25": psycopg2.InternalError, "26": psycopg2.ProgrammingError,
    "27": psycopg2.OperationalError, "28": psycopg2.OperationalError, "2B": psycopg2.InternalError, "2D": psycopg2.InternalError,
    "2F": psycopg2.InternalError, "34": psycopg2.ProgrammingError, "38": psycopg2.InternalError, "39": psycopg2.InternalError,
    "3B": psycopg2.InternalError, "3D": psycopg2.ProgrammingError, "3F": psycopg2.ProgrammingError,
    "40": psycopg2.extensions.TransactionRollbackError, "42": psycopg2.ProgrammingError, "44": psycopg2.ProgrammingError,
    "53": psycopg2.OperationalError, "54": psycopg2.OperationalError, "55": psycopg2.OperationalError, "57": psycopg2.OperationalError,
    "58": psycopg2.OperationalError, "F0": psycopg2.InternalError, "HV": psycopg2.OperationalError, "P0": psycopg2.InternalError,
    "XX": psycopg2.InternalError,
}  # fmt: skip
"""The classes of codes that psycopg2 has no name for, by their first two characters (psycopg2's manual, "errors")."""


def failure_from(message: str, fields: dict[str, str]) -> psycopg2.Error:
    """Return the exception for an error of the server. message: as libpq prints it; fields: by libpq's field codes."""
    code = fields.get("C")
    error = _kind_of(code)(_without_severity(message))
    error.pgcode, error.pgerror = code, message
    error.diag = SimpleNamespace(**{name: fields.get(field) for name, field in FIELDS.items()})  # type: ignore[assignment]
    return error


@lru_cache(maxsize=256)
def _kind_of(code: str | None) -> type[psycopg2.Error]:
    """Return a subclass of psycopg2's class, whose attributes can be set: psycopg2's own are only set by its cursors."""
    if code is None:
        base: type[psycopg2.Error] = psycopg2.DatabaseError
    else:
        try:
            base = psycopg2.errors.lookup(code)
        except KeyError:
            base = CLASSES.get(code[:2], psycopg2.DatabaseError)
    return type(base.__name__, (base,), {"__module__": base.__module__, "pgcode": None, "pgerror": None, "diag": None})


def _without_severity(message: str) -> str:
    return message.partition(":  ")[2] or message
