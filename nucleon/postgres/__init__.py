"""PostgreSQL: psycopg2 made green, behind a pool that loses nothing. See docs/postgres.md."""

from nucleon.pool import PoolExhausted, SelfDeadlock
from nucleon.postgres.adapters import Json
from nucleon.postgres.client import Postgres
from nucleon.postgres.errors import (
    AlreadyExists,
    Away,
    ConstraintFailed,
    NoRow,
    OutcomeUnknown,
    SeveralRows,
    StatementFailed,
    StillReferenced,
    TransactionConflict,
    TransactionMisused,
)
from nucleon.postgres.listening import Gap, Listener, Notification
from nucleon.postgres.settings import Settings

__all__ = [
    "AlreadyExists", "Away", "ConstraintFailed", "Gap", "Json", "Listener", "NoRow", "Notification", "OutcomeUnknown", "PoolExhausted",
    "Postgres", "SelfDeadlock", "Settings", "SeveralRows", "StatementFailed", "StillReferenced", "TransactionConflict",
    "TransactionMisused",
]  # fmt: skip
