"""What can be set about PostgreSQL: section `[postgres]`."""

from dataclasses import dataclass, fields

from nucleon.errors import SetupError
from nucleon.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The pool and its connections. Times are seconds; 0 switches a time-out off.

    dsn: libpq's connection string or URI; what it leaves out comes from service file, `.pgpass` and libpq's defaults.
    bridge_seconds: an outage shorter than this is waited out; in a longer one requests are refused at once, until it ends.
    waiting_maximum: so many may stand in line; one more is refused at once.
    connect_seconds: for all addresses of all hosts together.
    application_name: as PostgreSQL shows it; empty: what the dsn says, else "nucleon".
    reset: "seen" cleans the session (DISCARD ALL) when a statement that changes it was seen; "always" after every use.
    stream_seconds: how long a stream without a deadline waits for its next batch; 0: for ever.
    transaction_retries: how often a route with `transaction=True` repeats its statements after a serialization failure or deadlock.
    cursor_key: signs the cursors of pages; without it the dsn is the secret. cursor_seconds: how long a cursor is good; 0: for ever.
    replicas: connection strings of read replicas; each gets a pool with the same limits. replica_lag_seconds: one further behind is left
    out. replica_check_seconds: how often they are looked at. position_seconds: how long after a write its client reads only from where
    the write can be seen; signed with cursor_key.
    migrations: the folder of the migrations, from the project's; "" finds `migrations/`. migrations_lock_seconds: how long one try of a
    migration waits for a lock (so long others wait behind it); migrations_wait_seconds: how long it goes on trying, and waits for its turn.
    migrations_newer: "refuse" to start, or "allow" it, when the database has migrations that the code does not know.
    repeats_told: how often one request runs the same statement before that is counted, and told in development; 0: never.
    """

    dsn: Secret[str] | None = None
    minimum: int = 0
    maximum: int = 10
    wait_seconds: float = 5.0
    waiting_maximum: int = 10_000
    bridge_seconds: float = 2.0
    connect_seconds: float = 5.0
    lifetime_seconds: float = 1800.0
    idle_seconds: float = 600.0
    validate_after_seconds: float = 0.5
    validation_seconds: float = 2.0
    leak_seconds: float = 0.0
    statement_timeout_seconds: float = 0.0
    lock_timeout_seconds: float = 0.0
    idle_in_transaction_seconds: float = 60.0
    cancel_grace_seconds: float = 0.2
    application_name: str = ""
    reset: str = "seen"
    stream_seconds: float = 60.0
    transaction_retries: int = 3
    cursor_key: Secret[str] | None = None
    cursor_seconds: float = 86_400.0
    replicas: tuple[Secret[str], ...] = ()
    replica_lag_seconds: float = 10.0
    replica_check_seconds: float = 1.0
    position_seconds: float = 60.0
    migrations: str = ""
    migrations_lock_seconds: float = 2.0
    migrations_wait_seconds: float = 300.0
    migrations_newer: str = "refuse"
    repeats_told: int = 5

    def __post_init__(self) -> None:
        if self.reset not in ("seen", "always"):
            raise SetupError(f"reset is 'seen' or 'always', not {self.reset!r}")
        if self.migrations_newer not in ("refuse", "allow"):
            raise SetupError(f"migrations_newer is 'refuse' or 'allow', not {self.migrations_newer!r}")
        negative = [field.name for field in fields(self) if isinstance(value := getattr(self, field.name), int | float) and value < 0]
        if negative:
            raise SetupError(f"{', '.join(negative)} cannot be negative")
        if self.maximum < 1 or not 0 <= self.minimum <= self.maximum:
            raise SetupError(f"minimum {self.minimum} and maximum {self.maximum} do not fit: 0 <= minimum <= maximum, maximum at least 1")
