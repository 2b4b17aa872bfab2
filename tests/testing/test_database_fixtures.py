"""The fixtures `db` and `committed_db`, in a small project of a user."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

HOUSE = Path(__file__).parents[2]

APP = """
from nucleon import App, Created, Model
from nucleon.postgres import Postgres

app = App("stored")
db = app.use(Postgres())
told = []


class Item(Model):
    name: str


@app.on_start
def begin() -> None:
    db.execute("insert into starts default values")


@app.get("/items")
def items() -> list[str]:
    return db.values(str, "select name from items order by name")


@app.post("/items")
def add(body: Item) -> Created[Item]:
    with db.transaction():
        db.execute("insert into items values (%s)", body.name)
        db.after_commit(lambda: told.append(body.name))
    return Created(body)


@app.get("/export.ndjson")
def export() -> list[int]:
    return [db.value(int, "select length(%s)", row["name"]) for row in db.stream(dict, "select name from items")]
"""

TESTS = """
import os
import pytest
import app as code
from nucleon import green

@pytest.mark.parametrize("turn", range(3))
def test_each_test_begins_empty(client, db, turn):
    assert client.get("/items").json() == ["first"]
    assert client.post("/items", json={"name": "a"}).status == 201
    assert client.get("/items").json() == ["a", "first"]
    assert code.told.pop() == "a"
    assert db is code.db
    assert db.value("select count(*) from starts") == 1
    assert client.post("/items", json={"name": "a"}).status == 409

def test_functions_are_tested_without_a_client(db):
    db.execute("insert into items values ('b')")
    assert code.items() == ["b", "first"]

@pytest.mark.parametrize("turn", range(3))
def test_commits_are_commits_on_a_database_of_ones_own(committed_db, client, turn):
    assert client.get("/items").json() == ["first"]
    client.post("/items", json={"name": "c"})
    assert client.get("/export.ndjson").json() == [5, 1]
    assert all(one.get() == ["c", "first"] for one in [green.spawn(code.items) for _ in range(5)])
    assert committed_db.value("select count(*) from starts") == 1

def test_what_needs_two_connections_says_so(client, db):
    client.post("/items", json={"name": "c"})
    answer = client.get("/export.ndjson")
    assert answer.status == 500

def test_a_run_has_a_database_of_its_own(client):
    client.post("/items", json={"name": "kept"})

def test_which_it_keeps_until_it_ends(client):
    assert "kept" in client.get("/items").json()
"""


@pytest.fixture
def project(tmp_path: Path, fresh_postgres_dsn: str) -> Iterator[Path]:
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n')
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "1_items.sql").write_text("create table items (name text primary key); create table starts (id serial);")
    (tmp_path / "migrations" / "2_first.sql").write_text("insert into items values ('first');")
    yield tmp_path
    for name in databases(fresh_postgres_dsn):
        run_sql(fresh_postgres_dsn, f"drop database {name} with (force)")


def run_sql(dsn: str, statement: str) -> list[str]:
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return [] if cursor.description is None else [row[0] for row in cursor.fetchall()]
    finally:
        connection.close()


def databases(dsn: str) -> list[str]:
    return run_sql(dsn, "select datname::text from pg_database where datname like 'nucleon\\_test\\_%' order by 1")


def started(project: Path, dsn: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(HOUSE), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "NUCLEON_TEST_DATABASE_URL": dsn}
    environment.pop("NUCLEON_ENV", None)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "nucleon.testing.plugin"]
    return subprocess.Popen(words, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_runs_at_the_same_time_share_the_template_and_leave_only_it(project: Path, fresh_postgres_dsn: str) -> None:
    runs = [started(project, fresh_postgres_dsn) for _ in range(3)]
    for one in runs:
        said, _ = one.communicate(timeout=100)
        assert one.returncode == 0, said
        assert "10 passed" in said
    (template,) = databases(fresh_postgres_dsn)
    run_sql(fresh_postgres_dsn, f"create database {template}_999999999_1 template {template}")  # of a run that was killed
    (project / "migrations" / "3_more.sql").write_text("insert into items values ('more'); delete from items where name = 'more';")
    again = started(project, fresh_postgres_dsn)
    said, _ = again.communicate(timeout=100)
    assert again.returncode == 0, said
    (other,) = databases(fresh_postgres_dsn)
    assert other != template


def test_a_migration_that_fails_is_told_and_db_and_committed_db_exclude_each_other(project: Path, fresh_postgres_dsn: str) -> None:
    (project / "test_it.py").write_text("def test_both(db, committed_db):\n    pass\n")
    run = started(project, fresh_postgres_dsn)
    assert "db rolls back what committed_db would commit: take one of them" in run.communicate(timeout=100)[0]
    (project / "migrations" / "3_bad.sql").write_text("insert into nothing values (1);")
    run = started(project, fresh_postgres_dsn)
    assert '3_bad.sql, line 1: relation "nothing" does not exist (42P01)' in run.communicate(timeout=100)[0]
