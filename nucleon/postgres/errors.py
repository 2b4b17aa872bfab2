"""What PostgreSQL and psycopg2 raise, told as problems. The only place where foreign errors are translated.

A problem's detail names tables, columns and constraints, never values; the driver's own error is its `__cause__`, for the log.
"""

import psycopg2

from nucleon.errors import Conflict, DeadlineExceeded, Invalid, NotFound, Problem, Unavailable


class NoRow(NotFound):
    """`one` or `value` found no row."""


class SeveralRows(Problem):
    """`one`, `maybe_one` or `value` found more than one row: the statement is wrong."""


class AlreadyExists(Conflict):
    """A unique or exclusion constraint refused the row (23505, 23P01)."""


class StillReferenced(Conflict):
    """A foreign key refused the change (23503): the other row is missing, or is still in use."""


class ConstraintFailed(Invalid):
    """A check or not-null constraint refused the row, or a value does not fit its column's type."""


class TransactionConflict(Conflict):
    """Another transaction came in between (40001, 40P01), and trying again did not help."""


class TransactionMisused(Problem):
    """The program uses a transaction wrongly; going on would lose data silently."""


class StatementFailed(Problem):
    """The database refused the statement: a fault of the program."""


class OutcomeUnknown(Problem):
    """The connection was lost during COMMIT, or during a statement outside a transaction that may write: it may or may not have happened.

    It is never tried again by itself, and it is no 503: clients try those again.
    """


class Away(Unavailable):
    """The database cannot be reached, is starting, full or read-only, or the connection was lost."""

    may_have_written = False


CONFLICTS = {"23505": AlreadyExists, "23P01": AlreadyExists, "23503": StillReferenced}
INVALID = {"23514", "23502", "23000", "22001", "22003", "22007", "22008", "22P02", "22021", "22P05"}
RETRYABLE = {"40001", "40P01"}
EVICTING = {"25006", "57P01", "57P02", "57P03"}
"""After these the session, or the server behind it, is not the one that is wanted."""
PERMANENT = (
    "authentication failed", "no pg_hba.conf entry", "does not exist", "no password supplied", "invalid connection option",
    "certificate verify failed", "does not match host name", "does not support SSL", "root certificate file", "definition of service",
)  # fmt: skip
"""What libpq says of a connect that will fail again in the same way (it has no codes for these)."""


def problem_from(error: BaseException, *, expired: bool = False) -> Problem:
    """Return the problem that tells `error` (a `psycopg2.Error`). expired: the deadline cancelled the statement."""
    if isinstance(error, Problem):
        return error
    code = getattr(error, "pgcode", None) or ""
    problem = _by_code(code, error, expired)
    problem.__cause__ = error
    return problem


def _by_code(code: str, error: BaseException, expired: bool) -> Problem:
    if code in CONFLICTS:
        return CONFLICTS[code](_said(error))
    if code in INVALID:
        return ConstraintFailed(_said(error))
    if code in RETRYABLE:
        return TransactionConflict("another transaction changed the same rows at the same time")
    if code == "57014" or expired:
        return DeadlineExceeded("the statement was cancelled at the deadline" if expired else "the statement was cancelled")
    if code == "55P03":
        return Unavailable("a row or table is locked by another transaction")
    if code == "25P02":
        return TransactionMisused("an earlier statement of this transaction failed: it can only be rolled back")
    if code[:2] in ("53", "08") or code in EVICTING:
        return Away(f"the database is away ({code})")
    if not code and isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)):
        return Away("the connection to the database was lost; what was running may or may not have taken effect")
    return StatementFailed(f"the database refused the statement ({code or type(error).__name__})")


def _said(error: BaseException) -> str:
    diagnostics = getattr(error, "diag", None)
    kind = type(error).__name__
    words = "".join(" " + letter.lower() if letter.isupper() else letter for letter in kind).strip()
    for word in ("constraint_name", "column_name", "table_name"):
        name = getattr(diagnostics, word, None)
        if name:
            return f"{words}: {word.removesuffix('_name')} {name}"
    return words


def is_permanent(error: BaseException) -> bool:
    """Tell whether a failed connect will fail again in the same way (credentials, names)."""
    text = str(error)
    return any(part in text for part in PERMANENT)
