"""`nucleon db` and the start of a service on its schema, as a user meets them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nucleon.embedded.servers import lock_at_once
from nucleon.testing import LiveServer, eventually

HOUSE = str(Path(__file__).parents[2])
APP = """
from nucleon import App
from nucleon.postgres import Postgres

app = App("small")
db = app.use(Postgres())


@app.get("/")
def count() -> int:
    return db.value(int, "select count(*) from items")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def run(project: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUCLEON_")}
    command = [sys.executable, "-m", "nucleon", *words]
    environment = {**kept, "PYTHONPATH": HOUSE, **variables}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL)


def test_a_migration_from_new_to_down(project: Path, fresh_postgres_dsn: str) -> None:
    on_server = {"DATABASE_URL": fresh_postgres_dsn}
    production = {**on_server, "NUCLEON_ENV": "production"}
    assert "no migrations yet: `nucleon db new create tables`" in run(project, "db", "up", **on_server).stderr
    assert "migrations/0001_create_items.sql is written" in run(project, "db", "new", "create", "items").stdout
    (project / "migrations" / "0001_create_items.sql").write_text("create table items (id int);")
    (project / "migrations" / "0001_create_items.down.sql").write_text("drop table items;")
    status = run(project, "db", "status", **on_server)
    assert status.returncode == 1 and "pending" in status.stdout and "run `nucleon db up`" in status.stdout
    served = run(project, "serve", "--bind", "127.0.0.1:0", "--workers", "1", **production)
    assert served.returncode == 1
    assert "the database lacks 1 of this code's migrations (0001_create_items.sql): run `nucleon db up`" in served.stderr
    up = run(project, "db", "up", **production)
    assert up.returncode == 0 and "0001_create_items.sql: applied in" in up.stdout, up.stderr
    assert "nothing to do: the schema is current" in run(project, "db", "up", **production).stdout
    status = run(project, "db", "status", **on_server)
    assert (status.returncode, status.stderr) == (0, "") and "applied" in status.stdout
    refused = run(project, "db", "down", **production)
    assert refused.returncode == 1 and "say --yes if that is meant" in refused.stderr
    assert run(project, "db", "down", "--yes", **production).stdout.endswith("[postgres] 1 undone\n")


def test_a_step_that_migrates_needs_no_address_but_the_databases(project: Path, fresh_postgres_dsn: str) -> None:
    others = "from nucleon.amqp import Amqp\nfrom nucleon.redis import Redis\ncache = app.use(Redis())\nbroker = app.use(Amqp())\n"
    (project / "app.py").write_text(APP + others)
    (project / "migrations").mkdir()
    (project / "migrations" / "0001_items.sql").write_text("create table items (id int)")
    production = {"DATABASE_URL": fresh_postgres_dsn, "NUCLEON_ENV": "production"}
    for words in (("up",), ("status",), ("check",)):
        done = run(project, "db", *words, **production)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    refused = run(project, "serve", "--bind", "127.0.0.1:0", **production)
    assert refused.returncode == 1 and "[redis] url" in refused.stderr and "[amqp] url" in refused.stderr


def test_reset_is_for_development_and_test_and_asks_before_it_empties_a_configured_server(project: Path, fresh_postgres_dsn: str) -> None:
    (project / "migrations").mkdir()
    (project / "migrations" / "1_items.sql").write_text("create table items (id int);")
    on_server = {"DATABASE_URL": fresh_postgres_dsn}
    refused = run(project, "db", "reset", "--yes", "--env", "production", **on_server)
    assert refused.returncode == 1 and "only in development and test, this is production" in refused.stderr
    asked = run(project, "db", "reset", **on_server)
    assert asked.returncode == 1 and "this deletes everything in database test_" in asked.stderr
    done = run(project, "db", "reset", "--yes", **on_server)
    assert done.returncode == 0 and "empty again, 1 migrations applied" in done.stdout, done.stderr


def test_check_names_the_line_of_a_misspelt_column_and_of_a_file_with_a_wrong_name(project: Path, fresh_postgres_dsn: str) -> None:
    on_server = {"DATABASE_URL": fresh_postgres_dsn}
    (project / "migrations").mkdir()
    (project / "migrations" / "1_items.sql").write_text("create table items (id int);")
    behind = run(project, "db", "check", **on_server)
    assert behind.returncode == 1 and "run `nucleon db up`" in behind.stderr
    run(project, "db", "up", **on_server)
    fine = run(project, "db", "check", **on_server)
    assert (fine.returncode, fine.stdout) == (0, "1 statements checked, 0 unchecked, 0 remarks, 0 faults\n"), fine.stderr
    (project / "app.py").write_text(APP.replace("count(*)", "ident"))
    planted = run(project, "db", "check", **on_server)
    assert planted.returncode == 1
    assert 'app.py:11: column "ident" does not exist (42703)' in planted.stdout
    (project / "migrations" / "more.sql").write_text("select 1;")
    assert "migrations/more.sql: a migration is named NUMBER_what_it_does.sql" in run(project, "check").stderr


@pytest.fixture
def open_project() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nucleon-tests-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as somebody else when the tests run as root
        yield Path(folder)
        with (Path(folder) / ".nucleon" / "supervisor.lock").open("a") as supervisor:
            eventually(lambda: lock_at_once(supervisor), within_seconds=20)  # who still writes here while the folder is removed


def test_serving_in_development_applies_the_migrations_and_says_so_in_one_line(open_project: Path) -> None:
    (open_project / "app.py").write_text(APP)
    (open_project / "migrations").mkdir()
    (open_project / "migrations" / "0001_items.sql").write_text("create table items (id int); insert into items values (1);")
    with LiveServer("app:app", folder=open_project, environment={"PYTHONPATH": HOUSE, "NUCLEON_ENV": "development"}) as server:
        assert server.get("/").json() == 1
        assert server.log.count("[postgres] applied 1 migration: 0001_items.sql") == 1
        assert server.stop() == 0
