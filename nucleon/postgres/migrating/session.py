"""The migrator's own connection: nothing else runs on it, and the lock that keeps migrators apart lives and dies with it."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic
from typing import Any

import gevent
import psycopg2
import psycopg2.errors
import psycopg2.extensions

from nucleon.errors import Problem, SetupError
from nucleon.postgres.connect import opener
from nucleon.postgres.connection import Connection
from nucleon.postgres.migrating.standing import Applied
from nucleon.postgres.settings import Settings

Tell = Callable[[str], None]

TABLE = "nucleon_migrations"
LOCK = 0x6E75636C656F6E  # "nucleon": any number, the same for all; advisory locks belong to one database
LOCK_POLL_SECONDS = 0.1
VERSION_WITH_CLIENT_CHECK = 140000
IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE
CREATE_TABLE = f"""
create table if not exists {TABLE} (
    number bigint primary key,
    name text not null,
    checksum text not null,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz
)"""


class NoConnection(SetupError):
    """The database cannot be reached, or refuses."""


class Session:
    """One connection, used by the migrator alone."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def run(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Send a text as it is (several statements, when there are no parameters) and return its rows. Raises `psycopg2.Error`."""
        cursor = self.connection.cursor()
        try:
            cursor.execute(statement, parameters or None)
            return [] if cursor.description is None else cursor.fetchall()
        finally:
            cursor.close()

    def rollback(self) -> None:
        """End the open transaction, when there is one and somebody to tell."""
        if not self.connection.closed and self.connection.get_transaction_status() != IDLE:
            self.run("rollback")

    def tidy(self) -> None:
        """Forget what a file has set (role, search_path, time-outs); keep the lock."""
        self.run("reset all; set session authorization default")
        if self.connection.server_version >= VERSION_WITH_CLIENT_CHECK:
            # a statement of a migrator that was killed ends within a second instead of running on
            self.run("set client_connection_check_interval = '1s'")

    def applied(self) -> list[Applied]:
        """Return what is applied; nothing in a database that was never migrated."""
        try:
            rows = self.run(f"select number, name, checksum, started_at, finished_at from {TABLE} order by number")
        except psycopg2.errors.UndefinedTable:
            return []
        except psycopg2.errors.InsufficientPrivilege as error:
            ((role,),) = self.run("select current_user")
            raise SetupError(f"the role {role} may not see which migrations are applied: grant select on {TABLE} to {role}") from error
        return [Applied(*row) for row in rows]


@contextmanager
def opened(settings: Settings) -> Iterator[Session]:
    """Open a connection of one's own with these settings, without their time-outs. Raises `SetupError` when it cannot."""
    own = replace(
        settings,
        statement_timeout_seconds=0.0,
        lock_timeout_seconds=0.0,
        idle_in_transaction_seconds=0.0,
        application_name="nucleon db",
    )
    try:
        connection = opener(own)()
    except Exception as error:
        raise NoConnection(f"cannot connect to the database: {told(error)}") from error
    try:
        yield Session(connection)
    except psycopg2.Error as error:
        raise SetupError(f"the database refused: {told(error)} ({error.pgcode or type(error).__name__})") from error
    finally:
        connection.shut()


@contextmanager
def locked(settings: Settings, tell: Tell) -> Iterator[Session]:
    """Open a connection and be the only migrator of the database until the block ends, however it ends.

    Whoever waits asks again and again instead of standing in line: a waiting statement would hold a snapshot, and CREATE INDEX
    CONCURRENTLY waits for those. Raises `SetupError` after `migrations_wait_seconds`.
    """
    with opened(settings) as session:
        end = monotonic() + settings.migrations_wait_seconds
        is_told = False
        while not session.run("select pg_try_advisory_lock(%s)", LOCK)[0][0]:
            if not is_told:
                tell("another process migrates this database: waiting for it")
                is_told = True
            if monotonic() > end:
                holder = session.run("select pid from pg_locks where locktype = 'advisory' and objid = %s and granted", LOCK & 0xFFFFFFFF)
                who = f"process {holder[0][0]} of the server" if holder else "somebody"
                raise SetupError(
                    f"{who} has held the migration lock for more than {settings.migrations_wait_seconds:g} s: let it finish "
                    "(see pg_stat_activity) and run `nucleon db up` again"
                )
            gevent.sleep(LOCK_POLL_SECONDS * random.uniform(0.5, 1.5))
        session.tidy()
        try:
            session.run(CREATE_TABLE)
        except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.ReadOnlySqlTransaction) as error:
            raise SetupError(
                f"the table {TABLE} cannot be made: {told(error)}. Migrate on the primary, with the role that owns the tables"
            ) from error
        yield session


def place_of(settings: Settings) -> str:
    """Return database and host in words, without user and password. Raises `SetupError` when the DSN cannot be read."""
    try:
        parts = psycopg2.extensions.parse_dsn(settings.dsn.reveal() if settings.dsn is not None else "")
    except psycopg2.ProgrammingError:
        raise SetupError("postgres.dsn is not a connection string that libpq understands") from None
    return f"database {parts.get('dbname', '(by default)')} on {parts.get('host', '(by default)')}"


def told(error: BaseException) -> str:
    """Return a driver's error in one line, without the connection string."""
    cause = error.__cause__ if isinstance(error, Problem) and error.__cause__ is not None else error
    if (problem := getattr(cause, "problem", None)) is not None:  # PermanentFailure of the pool
        cause = problem.__cause__ or problem
    said = getattr(getattr(cause, "diag", None), "message_primary", None) or str(cause).strip().partition("\n")[0]
    return " ".join(said.removeprefix("FATAL:").split()) or type(cause).__name__
