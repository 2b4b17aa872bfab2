"""Databases for tests: a template with the project's migrations, made once, and copies of it.

    nucleon_test_<project>_<schema>             the template; another schema (a new or edited migration) is another template
    nucleon_test_<project>_<schema>_<pid>_<n>   a copy, for a test run or for one test; dropped at its end

Several test runs at once (pytest-xdist, two terminals) share the template: an advisory lock lets one make it. What a killed run has
left is dropped by the next one.
"""

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from time import monotonic, sleep

import psycopg2.errors
import psycopg2.extensions

from nucleon.errors import SetupError
from nucleon.postgres import Postgres, Settings
from nucleon.postgres.migrating import opened, read, up
from nucleon.postgres.migrating.session import Session
from nucleon.secret import Secret

LOCK = 0x74657374  # "test": any number, the same for all
PATIENCE_SECONDS = 10.0
MAKING_SECONDS = 600.0
PARTS_OF_A_COPY = 6
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Template:
    """Where copies come from. settings: of the resource, on the server's own database; name: None makes empty databases."""

    settings: Settings
    project: str
    name: str | None

    @contextmanager
    def copy(self) -> Iterator[Settings]:
        """Make a database of its own, give its settings, and drop it afterwards."""
        name = f"{self.name or self.project + 'empty'}_{os.getpid()}_{next(_numbers)}"
        with opened(self.settings) as session:
            _create(session, name, self.name or "template0")
        try:
            yield on_database(self.settings, name)
        finally:
            with opened(self.settings) as session:
                session.run(f"drop database if exists {name} with (force)")


def template_of(settings: Settings, project: Path, name: str, folder: Path | None) -> Template:
    """Return the template for a resource, made now when it is not there. folder: of the migrations.

    Raises `SetupError` when a migration fails or the role may not create databases.
    """
    here = hashlib.sha256(f"{platform.node()} {project.resolve()} {name}".encode()).hexdigest()[:8]
    prefix = f"nucleon_test_{here}_"
    migrations = read(folder) if folder is not None else []
    if not migrations or folder is None:
        return Template(settings, prefix, None)
    schema = hashlib.sha256(" ".join(f"{one.name} {one.checksum}" for one in migrations).encode()).hexdigest()[:10]
    template = f"{prefix}{schema}"
    with opened(settings) as session:
        _take_turn(session)
        there = [str(row[0]) for row in session.run("select datname from pg_database where starts_with(datname, %s)", prefix)]
        for leftover in there:
            if leftover != template and not any(one.startswith(leftover) and _belongs_to_a_run(one) for one in there):
                session.run(f"drop database if exists {leftover} with (force)")
        if template not in there:
            making = f"{template}_making"
            session.run(f"drop database if exists {making} with (force)")
            _create(session, making, "template0")
            up(on_database(settings, making), folder)
            _patiently(session, f"alter database {making} rename to {template}")
    return Template(settings, prefix, template)


def on_database(settings: Settings, name: str) -> Settings:
    """Return the settings with another database's name in the dsn, and without replicas, which do not have it yet."""
    dsn = psycopg2.extensions.make_dsn(settings.dsn.reveal() if settings.dsn is not None else "", dbname=name)
    return replace(settings, dsn=Secret(dsn), minimum=0, replicas=())


@contextmanager
def committed(database: Postgres, template: Template) -> Iterator[None]:
    """Let a `Postgres` work on a copy of the template while the block lasts."""
    before = database.settings
    with template.copy() as settings:
        database.configure(settings, database.name)
        try:
            yield
        finally:
            database.stop()
            database.configure(before, database.name)


def _belongs_to_a_run(name: str) -> bool:
    parts = name.split("_")
    return len(parts) == PARTS_OF_A_COPY and Path(f"/proc/{parts[4]}").exists()


def _take_turn(session: Session) -> None:
    end = monotonic() + MAKING_SECONDS
    while not session.run("select pg_try_advisory_lock(%s)", LOCK)[0][0]:
        if monotonic() > end:
            raise SetupError(f"another test run has been making the template database for more than {MAKING_SECONDS:g} s")
        sleep(0.05)


def _create(session: Session, name: str, template: str) -> None:
    try:
        _patiently(session, f"create database {name} template {template}")
    except psycopg2.errors.InsufficientPrivilege as error:
        (role,) = session.run("select current_user")[0]
        raise SetupError(f"tests make databases of their own: alter role {role} createdb") from error


def _patiently(session: Session, statement: str) -> None:
    """Run a statement that wants a database to have no users: the backends of closed connections need a moment to go."""
    end = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            session.run(statement)
            return
        except psycopg2.errors.ObjectInUse:
            if monotonic() > end:
                raise
            sleep(0.02)
