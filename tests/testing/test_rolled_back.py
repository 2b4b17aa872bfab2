"""The transaction around a test: the code under test behaves as in production, and nothing stays."""

from collections.abc import Iterator

import psycopg2
import psycopg2.extensions
import pytest

from nucleon import Conflict, green
from nucleon.errors import Problem
from nucleon.pool import SelfDeadlock
from nucleon.postgres import AlreadyExists, Postgres, StillReferenced, TransactionMisused
from nucleon.testing import eventually
from nucleon.testing.rolled_back import rolled_back

TABLES = """
create table items (id serial primary key, name text unique);
create table parts (item int references items deferrable initially deferred);
"""


@pytest.fixture
def outside(fresh_postgres_dsn: str) -> Iterator[Postgres]:
    """The same database, seen from elsewhere."""
    database = Postgres(dsn=fresh_postgres_dsn)
    database.execute(TABLES)
    yield database
    database.stop()


@pytest.fixture
def db(outside: Postgres, fresh_postgres_dsn: str) -> Iterator[Postgres]:
    database = Postgres(dsn=fresh_postgres_dsn)
    with rolled_back(database):
        yield database
    assert outside.value("select count(*) from items") == 0
    sessions = "select count(*) from pg_stat_activity where application_name = 'nucleon' and datname = current_database()"
    eventually(lambda: outside.value(sessions) == 1)
    database.stop()


def add(db: Postgres, name: str) -> int:
    return db.value(int, "insert into items (name) values (%s) returning id", name)


def names(db: Postgres) -> list[str]:
    return db.values(str, "select name from items order by id")


def test_what_was_written_is_read_and_seen_nowhere_else(db: Postgres, outside: Postgres) -> None:
    add(db, "a")
    assert names(db) == ["a"]
    assert names(outside) == []


def test_a_statement_that_fails_undoes_only_itself(db: Postgres) -> None:
    add(db, "a")
    with pytest.raises(AlreadyExists):
        add(db, "a")
    add(db, "b")
    assert names(db) == ["a", "b"]


def test_transactions_commit_and_roll_back_and_nest(db: Postgres) -> None:
    happened: list[str] = []
    with db.transaction(isolation="serializable", retries=2):
        add(db, "a")
        db.after_commit(lambda: happened.append("a"))
        with pytest.raises(AlreadyExists), db.transaction():
            db.after_commit(lambda: happened.append("never"))
            add(db, "a")
        assert happened == []
    assert happened == ["a"]
    with pytest.raises(Conflict), db.transaction():
        add(db, "b")
        db.after_commit(lambda: happened.append("never"))
        raise Conflict("no")
    add(db, "c")
    assert (names(db), happened) == (["a", "c"], ["a"])


def test_misuse_of_transactions_is_told_as_in_production(db: Postgres) -> None:
    with pytest.raises(TransactionMisused, match="swallowed"), db.transaction():
        add(db, "a")
        with pytest.raises(Problem):
            db.execute("select 1 / 0")
    with pytest.raises(TransactionMisused, match="began a transaction and left it open"):
        db.execute("begin")
    with pytest.raises(Problem), db.transaction(read_only=True):
        add(db, "b")
    add(db, "c")
    assert names(db) == ["c"]


def test_a_deferred_constraint_is_looked_at_when_the_transaction_commits(db: Postgres) -> None:
    with pytest.raises(StillReferenced), db.transaction():
        db.execute("insert into parts values (17)")
    with pytest.raises(StillReferenced):
        db.execute("insert into parts values (17)")
    with db.transaction():
        db.execute("insert into parts values (17)")
        db.execute("insert into items values (17, 'late')")
    assert db.value("select count(*) from parts") == 1


def test_streams_and_the_bare_connection_work(db: Postgres) -> None:
    db.many("insert into items (name) values %s", [(str(number),) for number in range(5)])
    assert [row["name"] for row in db.stream(dict, "select name from items order by id", batch_rows=2)] == list("01234")
    rows = db.stream(dict, "select name from items order by id", batch_rows=2)
    next(rows)
    rows.close()
    with db.connection() as connection, connection.cursor() as cursor:
        cursor.execute("set application_name = 'changed'; insert into items (name) values ('by hand')")
    assert db.value("show application_name") == "nucleon"
    assert names(db)[-1] == "by hand"


def test_greenlets_take_turns_on_the_connection(db: Postgres) -> None:
    for one in [green.spawn(add, db, str(number)) for number in range(10)]:
        one.get()
    assert len(names(db)) == 10


def test_a_second_connection_at_once_is_refused_with_what_to_do(db: Postgres) -> None:
    add(db, "a")
    rows = db.stream(dict, "select name from items")
    next(rows)
    with pytest.raises(SelfDeadlock, match="take committed_db"):
        names(db)
    rows.close()
    assert names(db) == ["a"]


def test_an_app_may_be_stopped_and_started_again_in_one_test(db: Postgres) -> None:
    add(db, "a")
    db.stop()
    db.start()
    assert names(db) == ["a"]


def test_a_connection_that_is_lost_is_told(db: Postgres, outside: Postgres) -> None:
    add(db, "a")
    pid = db.value(int, "select pg_backend_pid()")
    outside.execute("select pg_terminate_backend(%s, 5000)", pid)
    with pytest.raises(TransactionMisused, match=r"was closed .* take the fixture committed_db"):
        for _ in range(3):
            names(db)


def test_a_text_that_commits_on_its_own_is_caught(db: Postgres, outside: Postgres) -> None:
    with pytest.raises(TransactionMisused, match="ended the transaction around the test"):
        db.execute("select 1; commit")


def test_a_connection_is_set_up_as_in_production(outside: Postgres, fresh_postgres_dsn: str) -> None:
    def set_up(connection: psycopg2.extensions.connection) -> None:
        with connection.cursor() as cursor:
            cursor.execute("set lock_timeout = '7s'")

    database = Postgres(dsn=fresh_postgres_dsn, setup=set_up)
    with rolled_back(database):
        assert database.value("show lock_timeout") == "7s"
    database.stop()


def test_two_databases_at_once(outside: Postgres, fresh_postgres_dsn: str) -> None:
    first, second = Postgres(dsn=fresh_postgres_dsn), Postgres(dsn=fresh_postgres_dsn)
    with rolled_back(first, second):
        add(first, "a")
        assert names(second) == []
    assert names(outside) == []
    for one in (first, second):
        one.stop()


def test_the_driver_is_left_as_it_was(db: Postgres, fresh_postgres_dsn: str) -> None:
    add(db, "a")
    connection = psycopg2.connect(fresh_postgres_dsn)
    assert connection.cursor_factory is None
    connection.close()
