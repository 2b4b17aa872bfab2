"""Migrations on a real server: each file whole and once, whoever else tries and whatever is killed."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest

from nucleon import green
from nucleon.errors import SetupError
from nucleon.postgres import Postgres, Settings
from nucleon.postgres.migrating import MigrationFailed, be_current, down, folder_of, report, reset, standing, up, write_new
from nucleon.postgres.migrating.session import CREATE_TABLE, LOCK, opened
from nucleon.secret import Secret
from nucleon.testing import eventually

HOUSE = str(Path(__file__).parents[2])

Write = Callable[..., Path]


@pytest.fixture
def settings(fresh_postgres_dsn: str) -> Settings:
    return Settings(dsn=Secret(fresh_postgres_dsn), migrations_lock_seconds=0.1, migrations_wait_seconds=10)


@pytest.fixture
def database(fresh_postgres_dsn: str):
    database = Postgres(dsn=fresh_postgres_dsn)
    yield database
    database.stop()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(**files: str) -> Path:
        for name, text in files.items():
            (tmp_path / f"{name.removeprefix('m').replace('__', '.')}.sql").write_text(text)
        return tmp_path

    return write


def names(migrations) -> list[str]:
    return [one.name for one in migrations]


def test_files_are_applied_in_order_and_once(settings, write: Write, database) -> None:
    folder = write(
        m0002_fill="insert into items values (1); insert into items select 1 + id from items;",
        m0001_create="create table items (id int); -- a comment; with 'quotes\n",
        m0010_function="create function f() returns text language plpgsql as $x$ begin return 'a;b'; end $x$;",
    )
    lines: list[str] = []
    assert names(up(settings, folder, tell=lines.append)) == ["0001_create.sql", "0002_fill.sql", "0010_function.sql"]
    assert [line.partition(":")[0] for line in lines] == ["0001_create.sql", "0002_fill.sql", "0010_function.sql"]
    assert up(settings, folder) == []
    assert standing(settings, folder).is_current
    assert database.values(int, "select id from items order by 1") == [1, 2]
    assert database.value("select f()") == "a;b"


def test_a_file_that_fails_leaves_nothing_and_the_error_names_its_line(settings, write: Write, database) -> None:
    folder = write(m1_create="create table items (id int);", m2_bad="create table other (id int);\n\ninsert into items (nmae) values (1);")
    with pytest.raises(
        MigrationFailed, match=r'2_bad\.sql, line 3: column "nmae" of relation "items" does not exist \(42703\).*nothing of it'
    ):
        up(settings, folder)
    assert database.value("select to_regclass('other')") is None
    assert names(standing(settings, folder).pending) == ["2_bad.sql"]
    write(m2_bad="create table other (id int);")
    assert names(up(settings, folder)) == ["2_bad.sql"]


def test_what_a_file_sets_does_not_reach_the_next(settings, write: Write, database) -> None:
    folder = write(
        m1_dump="create schema side; select set_config('search_path', '', false); create table side.t (id int); create role limited; "
        "grant usage on schema side to limited; set role limited;",
        m2_next="create table plain (id int);",
    )
    try:
        up(settings, folder)
        assert database.value("select to_regclass('public.plain') is not null")
    finally:
        database.execute("drop owned by limited; drop role limited")


def test_an_applied_file_that_was_edited_is_refused_but_line_ends_are_no_edit(settings, write: Write) -> None:
    folder = write(m1_create="create table items (\n  id int\n);\n", m2_other="select 1;")
    up(settings, folder)
    (folder / "1_create.sql").write_bytes(b"create table items (\r\n  id int\r\n);\r\n")
    assert standing(settings, folder).is_current
    write(m1_create="create table items (\n  id bigint\n);\n")
    with pytest.raises(SetupError, match=r"1_create\.sql was changed after it was applied: put it back .*`nucleon db new`"):
        up(settings, folder)


def test_an_earlier_file_from_another_branch_is_refused_until_it_is_allowed(settings, write: Write) -> None:
    up(settings, write(m1_a="select 1;", m3_c="select 3;"))
    folder = write(m2_b="select 2;")
    with pytest.raises(SetupError, match=r"2_b\.sql comes before .* --out-of-order"):
        up(settings, folder)
    assert names(up(settings, folder, out_of_order=True)) == ["2_b.sql"]


def test_another_file_under_an_applied_number_is_told_as_such(settings, write: Write) -> None:
    folder = write(m1_a="select 1;", m2_theirs="select 2;")
    up(settings, folder)
    (folder / "2_theirs.sql").unlink()
    write(m2_ours="select 3;")
    with pytest.raises(SetupError, match=r"2_ours\.sql has the number of 2_theirs\.sql, which is applied"):
        up(settings, folder)


def test_a_file_without_a_statement_waits_until_it_has_one(settings, write: Write) -> None:
    folder = write(m1_a="select 1;", m2_new="-- to be written\n\n")
    with pytest.raises(SetupError, match=r"2_new\.sql has no statement yet: put SQL into it"):
        up(settings, folder)
    assert names(standing(settings, folder).pending) == ["1_a.sql", "2_new.sql"]
    write(m2_new="-- written\nselect 2;")
    assert names(up(settings, folder)) == ["1_a.sql", "2_new.sql"]


def test_a_database_that_is_newer_than_the_code_is_told(settings, write: Write) -> None:
    folder = write(m1_a="select 1;", m2_b="select 2;")
    up(settings, folder)
    (folder / "2_b.sql").unlink()
    with pytest.raises(SetupError, match=r"does not know \(2_b\.sql\): it is newer than the code"):
        up(settings, folder)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"m1_a": "", "m01_b": ""}, r"1_a\.sql has the number of 01_b\.sql: rename .* to 0002_a\.sql"),
        ({"mcreate": ""}, r"NUMBER_what_it_does\.sql"),
        ({"m1_a": "create table t (id int);\ncommit;"}, r"1_a\.sql, line 2: COMMIT inside a migration"),
        ({"m1_a": "/* x */ begin;"}, "BEGIN inside a migration"),
        ({"m1_a": "-- nucleon: no-transactions\n"}, "unknown directive 'no-transactions'"),
        (
            {"m1_a": "-- nucleon: no-transaction\ncreate index concurrently i on t (a);"},
            "line 2: write CREATE INDEX CONCURRENTLY IF NOT EXISTS",
        ),
        ({"m1_a": "", "m2_b__down": ""}, r"2_b\.down\.sql undoes nothing"),
    ],
)
def test_faults_of_files_are_told_before_anything_runs(settings, write: Write, files: dict[str, str], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        up(settings, write(**files))


@pytest.mark.parametrize(
    "text",
    [
        "select 'x; commit;'; select $$; commit; $$; select $a$ ; commit $a$",
        "savepoint a; rollback to savepoint a; rollback to a;",
        "create function f() returns int language sql begin atomic select 1; select 2; end;",
        "select E'\\'; commit; ';",
        "/* a /* nested; commit */ ; commit; */ select 1",
        "create table commit_log (id int); comment on table commit_log is 'it''s; commit'; -- ; commit",
    ],
)
def test_words_that_only_look_like_a_commit_are_no_fault(settings, write: Write, text: str) -> None:
    assert names(up(settings, write(m1_a=text))) == ["1_a.sql"]


def test_down_runs_what_was_written_and_refuses_the_rest(settings, write: Write, database) -> None:
    folder = write(
        m1_a="create table a ();",
        m2_b="create table b ();",
        m2_b__down="drop table b;",
        m3_c="create table c ();",
        m3_c__down="drop table c;",
    )
    up(settings, folder)
    assert names(down(settings, folder)) == ["3_c.sql"]
    with pytest.raises(SetupError, match="no down file for 1"):
        down(settings, folder, to=0)
    assert names(down(settings, folder, to=1)) == ["2_b.sql"]
    assert database.values("select relname from pg_class where relname in ('a', 'b', 'c')") == ["a"]
    assert names(up(settings, folder)) == ["2_b.sql", "3_c.sql"]


def test_reset_starts_over(settings, write: Write, database) -> None:
    folder = write(m1_a="create schema side; create table side.a (); create table b (); create extension if not exists plpgsql;")
    up(settings, folder)
    database.execute("create table by_hand ()")
    assert names(reset(settings, folder)) == ["1_a.sql"]
    assert database.value("select to_regclass('by_hand')") is None
    assert standing(settings, folder).is_current


def test_an_index_is_built_without_a_transaction_and_a_failed_one_is_repaired(settings, write: Write, database) -> None:
    folder = write(
        m1_a="create table items (id int); insert into items values (1), (1);",
        m2_index="-- nucleon: no-transaction\ncreate unique index concurrently if not exists items_id on items (id);",
    )
    with pytest.raises(
        MigrationFailed, match="it left index items_id INVALID: the next `nucleon db up` tries it again and drops the index first"
    ):
        up(settings, folder)
    assert names(standing(settings, folder).unfinished) == ["2_index.sql"]
    database.execute("delete from items where ctid = (select min(ctid) from items)")
    lines: list[str] = []
    up(settings, folder, tell=lines.append)
    assert lines[0] == "2_index.sql: dropped index items_id, which a run that broke off had left INVALID"
    assert database.value("select indisvalid from pg_index where indexrelid = 'items_id'::regclass")
    assert standing(settings, folder).is_current


def test_a_file_without_transaction_holds_one_statement(settings, write: Write) -> None:
    folder = write(
        m1_a="create table t (id int);", m2_two="-- nucleon: no-transaction\nselect 1; create index concurrently if not exists i on t (id);"
    )
    with pytest.raises(MigrationFailed, match="one statement in each file that says -- nucleon: no-transaction"):
        up(settings, folder)


def test_a_lock_that_others_hold_is_tried_again_and_then_told_with_who_is_open(settings, write: Write, fresh_postgres_dsn: str) -> None:
    folder = write(m1_a="create table items (id int);")
    up(settings, folder)
    write(m2_b="alter table items add column name text;")
    reader = psycopg2.connect(fresh_postgres_dsn, application_name="a long reader")
    reader.cursor().execute("select * from items")
    hasty = Settings(dsn=settings.dsn, migrations_lock_seconds=0.05, migrations_wait_seconds=0.5)
    with pytest.raises(
        MigrationFailed, match=r"lock timeout, \d tries in 0\.5 s; nothing of it was applied\. Open the longest: pid \d+ \(a long reader"
    ):
        up(hasty, folder)
    lines: list[str] = []
    trying = green.spawn(up, settings, folder, tell=lines.append)
    eventually(lambda: lines != [])
    reader.rollback()
    assert names(trying.get()) == ["2_b.sql"]
    reader.close()


MIGRATE = """
import sys
from pathlib import Path
from nucleon.postgres import Settings
from nucleon.postgres.migrating import up
from nucleon.secret import Secret
sys.stdin.readline()
print(len(up(Settings(dsn=Secret(sys.argv[1]), migrations_lock_seconds=float(sys.argv[3])), Path(sys.argv[2]))))
"""


def migrator(dsn: str, folder: Path, lock_seconds: float = 2.0) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": HOUSE}
    command = [sys.executable, "-c", MIGRATE, dsn, str(folder), str(lock_seconds)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)


def test_ten_replicas_that_start_at_once_apply_each_file_once(write: Write, fresh_postgres_dsn: str, database) -> None:
    folder = write(
        m1_a="create table items (id int); select pg_sleep(0.2);",
        m2_b="insert into items values (1);",
        m3_index="-- nucleon: no-transaction\ncreate index concurrently if not exists items_id on items (id);",
        m4_c="update items set id = id + 1;",
    )
    replicas = [migrator(fresh_postgres_dsn, folder) for _ in range(10)]
    for one in replicas:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [one.communicate(timeout=60) for one in replicas]
    assert [one.returncode for one in replicas] == [0] * 10, said
    assert sorted(int(out) for out, _ in said) == [0] * 9 + [4]
    assert database.values(int, "select id from items") == [2]


def is_running(database: Postgres, text: str) -> bool:
    return bool(
        database.value("select count(*) from pg_stat_activity where application_name = 'nucleon db' and query like %s", f"%{text}%")
    )


@pytest.mark.parametrize("directive", ["", "-- nucleon: no-transaction\n"])
def test_a_migrator_that_is_killed_leaves_the_database_clean_and_the_next_goes_on(
    write: Write, settings, fresh_postgres_dsn: str, database, directive: str
) -> None:
    statement = "do $$ begin create table if not exists items (id int); insert into items values (1); perform pg_sleep(%s); end $$;"
    folder = write(m1_a=directive + statement % 60)
    killed = migrator(fresh_postgres_dsn, folder)
    assert killed.stdin is not None
    killed.stdin.write("go\n")
    killed.stdin.flush()
    eventually(lambda: is_running(database, "pg_sleep(60)"), within_seconds=20)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    eventually(lambda: not database.value("select count(*) from pg_locks where locktype = 'advisory'"), within_seconds=20)
    assert database.value("select to_regclass('items')") is None
    write(m1_a=directive + statement % 0)
    assert names(up(settings, folder)) == ["1_a.sql"]
    assert database.values(int, "select id from items") == [1]


def test_a_migrator_that_is_killed_while_it_builds_an_index_is_repaired_by_the_next(
    write: Write, settings, fresh_postgres_dsn: str, database
) -> None:
    folder = write(
        m1_a="create table items (id int); insert into items select generate_series(1, 1000);",
        m2_index="-- nucleon: no-transaction\ncreate index concurrently if not exists items_id on items (id);",
    )
    (folder / "2_index.sql").rename(folder / "2_index.later")
    up(settings, folder)
    (folder / "2_index.later").rename(folder / "2_index.sql")
    reader = psycopg2.connect(fresh_postgres_dsn)
    reader.cursor().execute("begin; insert into items values (1)")  # the build waits for this transaction
    killed = migrator(fresh_postgres_dsn, folder)
    assert killed.stdin is not None
    killed.stdin.write("go\n")
    killed.stdin.flush()
    eventually(lambda: database.value("select count(*) from pg_index where not indisvalid"), within_seconds=20)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    eventually(lambda: not database.value("select count(*) from pg_locks where locktype = 'advisory'"), within_seconds=20)
    reader.close()
    (remark, *_) = [one for one in report(settings, folder)[1] if "did not reach its end" in one]
    assert remark.startswith("2_index.sql did not reach its end and left index items_id INVALID, which it drops first")
    lines: list[str] = []
    up(settings, folder, tell=lines.append)
    assert "dropped index items_id" in lines[0]
    assert database.value("select indisvalid from pg_index where indexrelid = 'items_id'::regclass")


def test_even_without_a_lock_nothing_is_applied_twice(settings, write: Write, database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a PgBouncer that lends a session's lock to others."""
    folder = write(m1_a="create table items (id int); select pg_sleep(0.3);")
    with opened(settings) as session:
        session.run(CREATE_TABLE)
    first = green.spawn(up, settings, folder)
    eventually(lambda: is_running(database, "pg_sleep(0.3)"))
    monkeypatch.setattr("nucleon.postgres.migrating.session.LOCK", LOCK + 1)
    with pytest.raises(MigrationFailed, match=r"duplicate key value violates unique constraint .*nothing of it was applied"):
        up(dataclasses.replace(settings, migrations_lock_seconds=5), folder)
    assert names(first.get()) == ["1_a.sql"]
    assert standing(settings, folder).is_current


def test_a_backend_that_is_terminated_leaves_nothing_and_the_error_says_so(settings, write: Write, database) -> None:
    folder = write(m1_a="create table items (id int); select pg_sleep(60);")
    migrating = green.spawn(up, settings, folder)
    eventually(lambda: is_running(database, "pg_sleep(60)"))
    database.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'nucleon db'")
    with pytest.raises(MigrationFailed, match=r"1_a\.sql: terminating connection.*nothing of it was applied"):
        migrating.get()
    assert database.value("select to_regclass('items')") is None
    write(m1_a="create table items (id int);")
    assert names(up(settings, folder)) == ["1_a.sql"]


def test_a_killed_greenlet_gives_the_lock_back(settings, write: Write, database) -> None:
    folder = write(m1_a="create table items (id int); select pg_sleep(60);")
    migrating = green.spawn(up, settings, folder)
    eventually(lambda: is_running(database, "pg_sleep(60)"))
    migrating.kill()
    eventually(lambda: not database.value("select count(*) from pg_locks where locktype = 'advisory'"))
    assert database.value("select to_regclass('items')") is None


def test_waiting_for_another_migrator_ends_and_says_who_it_is(settings, write: Write) -> None:
    with opened(settings) as other:
        other.run("select pg_advisory_lock(%s)", LOCK)
        hasty = Settings(dsn=settings.dsn, migrations_wait_seconds=0.2)
        with pytest.raises(SetupError, match=r"process \d+ of the server has held the migration lock for more than 0\.2 s"):
            up(hasty, write(m1_a="select 1;"))


def test_a_service_starts_only_on_the_schema_of_its_code(settings, write: Write) -> None:
    folder = write(m1_a="select 1;", m2_b="select 2;")
    lines: list[str] = []

    def start(**how: bool) -> None:
        be_current(settings, folder, "postgres", tell=lines.append, **{"may_apply": False, **how})

    with pytest.raises(
        SetupError, match=r"\[postgres\] the database lacks 2 of this code's migrations \(1_a.sql, 2_b.sql\): run `nucleon db up`"
    ):
        start()
    start(may_apply=True)
    assert lines == ["[postgres] applied 2 migrations: 1_a.sql to 2_b.sql"]
    start()
    (folder / "2_b.sql").unlink()
    with pytest.raises(SetupError, match="newer than the code"):
        start(may_apply=True)
    start(is_running=True)
    allowing = Settings(dsn=settings.dsn, migrations_newer="allow")
    be_current(allowing, folder, "postgres", may_apply=False, tell=lines.append)


def test_a_database_that_is_away_does_not_keep_a_service_from_starting(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    away = Settings(dsn=Secret("host=/nowhere dbname=x password=hidden"))
    be_current(away, write(m1_a="select 1;"), "postgres", may_apply=False, tell=print)
    assert "the schema was not checked" in caplog.text and "hidden" not in caplog.text


def test_folders_are_found_beside_the_code_then_in_the_project(tmp_path: Path) -> None:
    code, project = tmp_path / "shop", tmp_path
    assert folder_of(Settings(), "postgres", code, project) is None
    (project / "migrations" / "reports").mkdir(parents=True)
    assert folder_of(Settings(), "postgres", code, project) == project / "migrations"
    assert folder_of(Settings(), "reports", code, project) == project / "migrations" / "reports"
    (code / "migrations").mkdir(parents=True)
    assert folder_of(Settings(), "postgres", code, project) == code / "migrations"
    with pytest.raises(SetupError, match=r"\[postgres\] migrations: there is no folder"):
        folder_of(Settings(migrations="sql"), "postgres", code, project)


def test_a_role_with_too_few_rights_is_told_what_it_needs(settings, write: Write, database, fresh_postgres_dsn: str) -> None:
    folder = write(m1_a="create table items (id int);")
    database.execute("create role limited login")
    limited = Settings(dsn=Secret(fresh_postgres_dsn.replace("user=nucleon", "user=limited")))
    try:
        with pytest.raises(
            SetupError, match=r"the table nucleon_migrations cannot be made: permission denied .* the role that owns the tables"
        ):
            up(limited, folder)
        up(settings, folder)
        with pytest.raises(SetupError, match="grant select on nucleon_migrations to limited"):
            standing(limited, folder)
        database.execute("grant select on nucleon_migrations to limited")
        assert standing(limited, folder).is_current
    finally:
        database.execute("drop owned by limited; drop role limited")


def test_a_new_file_gets_the_next_number(tmp_path: Path) -> None:
    assert write_new(tmp_path / "migrations", "Create items!").name == "0001_create_items.sql"
    assert write_new(tmp_path / "migrations", "add price").name == "0002_add_price.sql"
    with pytest.raises(SetupError, match="names no migration"):
        write_new(tmp_path, "?!")
