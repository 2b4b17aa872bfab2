"""Up, down and reset. A file is applied whole or not at all, and once, however many try at the same time."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import gevent
import psycopg2
import psycopg2.errors
from psycopg2.sql import SQL, Identifier

from nucleon.errors import SetupError
from nucleon.postgres.migrating.files import NO_TRANSACTION, Migration, is_without_transaction, line_of, read, statements_in, text_of
from nucleon.postgres.migrating.session import IDLE, TABLE, Session, Tell, locked, opened, told
from nucleon.postgres.migrating.standing import Standing, compare
from nucleon.postgres.settings import Settings

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
EXISTS_ALREADY = ("42P07", "42710", "42701", "42723")
FORGET = "reset all; reset role; set session authorization default"
BLOCKED = (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected)


class MigrationFailed(SetupError):
    """A file could not be applied or undone; the text says what is left in the database."""


def silent(_line: str) -> None:
    """Tell nobody."""


def standing(settings: Settings, folder: Path) -> Standing:
    """Return how folder and database differ: one connection, one statement, no lock. Raises `SetupError`."""
    files = read(folder)
    with opened(settings) as session:
        return compare(files, session.applied())


def up(settings: Settings, folder: Path, *, tell: Tell = silent, out_of_order: bool = False) -> list[Migration]:
    """Apply what is pending, in order, and return it. Others that try at the same time wait and find it done.

    Raises `SetupError` when a file was edited or an earlier one came later, `MigrationFailed` at the first file that fails: those before
    it stay applied.
    """
    files = read(folder)
    with locked(settings, tell) as session:
        found = compare(files, session.applied())
        if hindrances := list(found.hindrances(out_of_order=out_of_order)):
            raise SetupError("; ".join(hindrances))
        for migration in found.pending:
            started = monotonic()
            if migration.in_transaction:
                _apply(session, migration, settings, tell)
            else:
                _apply_without_transaction(session, migration, is_again=migration in found.unfinished, tell=tell)
            tell(f"{migration.name}: applied in {monotonic() - started:.2f} s")
            session.tidy()
        return list(found.pending)


def down(settings: Settings, folder: Path, *, to: int | None = None, tell: Tell = silent) -> list[Migration]:
    """Undo the last migration, or all after number `to`, and return them. Raises `SetupError` when one has no down file."""
    files = {one.number: one for one in read(folder)}
    with locked(settings, tell) as session:
        numbers = [one.number for one in session.applied()]
        chosen = numbers[-1:] if to is None else [number for number in numbers if number > to]
        undone: list[Migration] = []
        missing = [str(number) for number in chosen if number not in files or files[number].down is None]
        if missing:
            raise SetupError(
                f"there is no down file for {', '.join(missing)}: write NUMBER_name.down.sql beside the migration, "
                "or go forward with a new one"
            )
        for number in reversed(chosen):
            _undo(session, files[number], settings, tell)
            tell(f"{files[number].name}: undone")
            undone.append(files[number])
            session.tidy()
        return undone


def reset(settings: Settings, folder: Path, *, tell: Tell = silent) -> list[Migration]:
    """Drop every schema with all it holds, and apply every migration. The caller makes sure that nobody will miss the data."""
    read(folder)  # faults first
    with locked(settings, tell) as session:
        rows = session.run("select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'")
        drops = [SQL("drop schema {} cascade").format(Identifier(name)).as_string(session.connection) for (name,) in rows]
        text = "; ".join([*drops, "create schema public"])
        _in_transaction(session, folder / "all schemas", lambda: session.run(text), settings, tell)
    return up(settings, folder, tell=tell)


def _apply(session: Session, migration: Migration, settings: Settings, tell: Tell) -> None:
    def steps() -> None:
        # the row comes first: a second migrator, if there could be one, would wait here for the end of this transaction
        session.run(
            f"insert into {TABLE} (number, name, checksum) values (%s, %s, %s)", migration.number, migration.name, migration.checksum
        )
        _run_file(session, migration.path, migration.text)
        session.run(f"{FORGET}; update {TABLE} set finished_at = clock_timestamp() where number = %s", migration.number)

    _in_transaction(session, migration.path, steps, settings, tell)


def _undo(session: Session, migration: Migration, settings: Settings, tell: Tell) -> None:
    assert migration.down is not None
    path, text = migration.down, text_of(migration.down)

    def steps() -> None:
        _run_file(session, path, text)
        session.run(f"{FORGET}; delete from {TABLE} where number = %s", migration.number)

    if is_without_transaction(text):
        steps()
    else:
        _in_transaction(session, path, steps, settings, tell)


def _apply_without_transaction(session: Session, migration: Migration, tell: Tell, *, is_again: bool) -> None:
    if is_again:
        for schema, index in invalid_indexes(session, migration.text):
            session.run(SQL("drop index concurrently {}").format(Identifier(schema, index)).as_string(session.connection))
            tell(f"{migration.name}: dropped index {index}, which a run that broke off had left INVALID")
        session.run(
            f"update {TABLE} set name = %s, checksum = %s, started_at = clock_timestamp() where number = %s",
            migration.name, migration.checksum, migration.number,
        )  # fmt: skip
    else:
        session.run(
            f"insert into {TABLE} (number, name, checksum) values (%s, %s, %s)", migration.number, migration.name, migration.checksum
        )
    try:
        _run_file(session, migration.path, migration.text)
    except psycopg2.Error as error:
        raise _failure(migration.path, migration.text, error, _left_behind(session, migration.text)) from error
    session.run(f"update {TABLE} set finished_at = clock_timestamp() where number = %s", migration.number)


def invalid_indexes(session: Session, text: str) -> list[tuple[str, str]]:
    """Return schema and name of each INVALID index that a text names: what CREATE or REINDEX CONCURRENTLY leaves when it fails."""
    rows = session.run(
        "select n.nspname, c.relname from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace "
        "where not i.indisvalid order by 1, 2"
    )
    words = set(re.findall(r"\w+", text.lower()))
    return [(schema, name) for schema, name in rows if re.sub(r"_cc(new|old)\d*$", "", name).lower() in words]


def _left_behind(session: Session, text: str) -> str:
    again = "the next `nucleon db up` tries it again"
    if session.connection.closed:
        return again
    names = ", ".join(name for _schema, name in invalid_indexes(session, text))
    return (
        f"it left index {names} INVALID: {again} and drops the index first (by hand: drop index concurrently {names})" if names else again
    )


def _run_file(session: Session, path: Path, text: str) -> None:
    was_open = session.connection.get_transaction_status() != IDLE
    if any(True for _ in statements_in(text)):
        session.run(text)
    if was_open and session.connection.get_transaction_status() == IDLE:
        raise MigrationFailed(f"{path.name} ended the transaction that it runs in: what stood before is committed, mend it by hand")


def _in_transaction(session: Session, path: Path, steps: Callable[[], object], settings: Settings, tell: Tell) -> None:
    """Run the steps in one transaction, again and again while others hold what it locks, until `migrations_wait_seconds` are over."""
    end, pause, tries = monotonic() + settings.migrations_wait_seconds, FIRST_PAUSE_SECONDS, 0
    while True:
        tries += 1
        left = "nothing of it was applied"
        try:
            session.run(f"begin; set local lock_timeout = {int(settings.migrations_lock_seconds * 1000)}")
            steps()
            left = "the connection was lost during COMMIT, `nucleon db status` tells whether it was applied"
            session.run("commit")
            return
        except BLOCKED as error:
            session.rollback()
            if monotonic() + pause > end:
                raise MigrationFailed(
                    f"{path.name}: {told(error)}, {tries} tries in {settings.migrations_wait_seconds:g} s; nothing of it was applied. "
                    f"{_blockers(session)}"
                ) from error
            if tries == 1:
                tell(f"{path.name}: others hold what it must lock; trying again for {settings.migrations_wait_seconds:g} s")
            gevent.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        except psycopg2.Error as error:
            session.rollback()
            left = left if session.connection.closed else "nothing of it was applied"
            raise _failure(path, text_of(path) if path.is_file() else "", error, left) from error
        except MigrationFailed:
            session.rollback()
            raise


def _failure(path: Path, text: str, error: psycopg2.Error, left: str) -> MigrationFailed:
    position = getattr(error.diag, "statement_position", None)
    place = f", line {line_of(text, int(position))}" if position and text else ""
    more = "".join(
        f". {word.capitalize()}: {said}" for word in ("detail", "hint") if (said := getattr(error.diag, f"message_{word}", None))
    )
    code = f" ({error.pgcode})" if error.pgcode else ""
    if error.pgcode == "25001":
        alone = f"PostgreSQL wants it alone: one statement in each file that says -- nucleon: {NO_TRANSACTION}"
        more += f". {alone}"
    if error.pgcode in EXISTS_ALREADY:
        more += ". If the database had it before there were migrations: in development `nucleon db reset` starts over"
    return MigrationFailed(f"{path.name}{place}: {told(error)}{code}{more}; {left}")


def _blockers(session: Session) -> str:
    """Say which transactions have been open the longest: one of them holds the lock."""
    rows = session.run(
        "select pid, application_name, state, extract(epoch from clock_timestamp() - xact_start)::int from pg_stat_activity "
        "where xact_start is not null and pid <> pg_backend_pid() and datname = current_database() order by xact_start limit 3"
    )
    if not rows:
        return "Nobody holds it any more: run `nucleon db up` again"
    listed = ", ".join(f"pid {pid} ({name or 'no name'}, {state}, {seconds} s)" for pid, name, state, seconds in rows)
    return f"Open the longest: {listed}; let them end, or end one with select pg_terminate_backend(PID)"
