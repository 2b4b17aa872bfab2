"""A greenlet killed at its n-th switch, for every n: the pool stays whole, and nothing dirty is handed out."""

import gevent
import pytest
from killing import SWITCHES_MAXIMUM, killed_at

from nucleon.errors import Problem
from nucleon.postgres import Postgres
from nucleon.testing.waiting import eventually


@pytest.fixture
def patient(fresh_postgres_dsn, db):
    """A pool that asks each connection before it lends it, and looks into the session after each use."""
    db.execute("create table pairs (n int, half int)")
    database = Postgres(dsn=fresh_postgres_dsn, maximum=2, validate_after_seconds=0.0, application_name="victim")
    database.start()
    yield database
    database.stop()


def insert(database, number):
    database.execute("insert into pairs values (%s, 1), (%s, 2)", number, number)


def transact(database, number):
    with database.transaction():
        database.execute("insert into pairs values (%s, 1)", number)
        with database.transaction():
            database.execute("insert into pairs values (%s, 2)", number)


def transact_in_vain(database, number):
    with pytest.raises(ZeroDivisionError), database.transaction():
        insert(database, number)
        raise ZeroDivisionError


def stream(database, number):
    insert(database, number)
    for _ in database.stream(int, "select * from generate_series(1, 30)", batch_rows=10):
        pass


def leave_traces(database, number):
    database.execute("set search_path to nowhere, public")
    database.execute("select pg_advisory_lock(%s)", number)
    with database.connection() as connection, connection.cursor() as cursor:
        cursor.execute("listen somewhere")
    insert(database, number)


def wait_in_line(database, number):
    holders = [gevent.spawn(database.execute, "select pg_sleep(0.003)") for _ in range(2)]
    try:
        insert(database, number)
    finally:
        gevent.joinall(holders)


@pytest.mark.parametrize("late_seconds", [0, 0.001])
@pytest.mark.parametrize("work", [insert, transact, transact_in_vain, stream, leave_traces, wait_in_line])
def test_killed_at_every_switch_it_leaves_everything_whole(patient, db, work, late_seconds):
    for number in range(1, SWITCHES_MAXIMUM):
        outcome = killed_at(number, lambda number=number: work(patient, number), late_seconds)
        eventually(lambda: patient.pool.in_use == patient.pool.waiting == 0)
        assert [patient.value("select %s", letter) for letter in "AB"] == ["A", "B"]
        assert patient.value("show search_path") == '"$user", public'
        eventually(lambda: sessions_with_traces(db) == 0)
        rows = db.values("select half from pairs where n = %s order by half", number)
        assert rows in ([], [1, 2]), "all or nothing"
        if outcome != "killed":
            assert rows == ([] if work is transact_in_vain else [1, 2])
        if outcome == "never so often":
            break
    assert 2 <= number < SWITCHES_MAXIMUM
    assert len(patient.pool._used) == 0 and patient.pool.size <= 2


def sessions_with_traces(db):
    return db.value(
        "select count(*) from pg_stat_activity a where application_name = 'victim' and (state like 'idle in transaction%%'"
        " or exists (select from pg_locks l where l.pid = a.pid and l.locktype = 'advisory')) and %s", True
    )  # fmt: skip


@pytest.mark.parametrize("late_seconds", [0, 0.001])
def test_killed_at_every_switch_while_the_pool_is_cold(fresh_postgres_dsn, late_seconds):
    for number in range(1, SWITCHES_MAXIMUM):
        database = Postgres(dsn=fresh_postgres_dsn, maximum=1)
        database.start()
        outcome = killed_at(number, lambda database=database: database.value("select 1"), late_seconds)
        assert database.value("select 2") == 2 and database.pool.in_use == 0 and database.pool.created <= 2
        database.stop()
        if outcome == "never so often":
            break
    assert number >= 2


def test_killed_while_it_opens_connections_the_pool_opens_others(fresh_postgres_dsn):
    """The greenlets that connect belong to the pool; nobody should kill them, but a pool that is stopped does."""
    for _ in range(5):
        database = Postgres(dsn=fresh_postgres_dsn, minimum=3, maximum=3)
        database.start()
        gevent.sleep(0.002)
        database.stop()
        database.start()
        assert database.value("select 1") == 1
        eventually(lambda database=database: database.pool.numbers()["idle"] == 3)
        database.stop()
        assert database.pool.size == 0


def test_a_taker_killed_in_a_thousand_ways_keeps_the_line_moving(fresh_postgres_dsn):
    database = Postgres(dsn=fresh_postgres_dsn, maximum=3)
    database.start()
    served = []

    def use(number):
        try:
            served.append(database.value("select %s from pg_sleep(0.001)", number))
        except Problem as problem:
            served.append(problem)

    workers = [gevent.spawn(use, number) for number in range(300)]
    for at, worker in enumerate(workers):
        if at % 3:
            gevent.sleep(0.0005)
            worker.kill(block=False)
    gevent.joinall(workers)
    assert not [one for one in served if isinstance(one, Problem)] and len(set(served)) == len(served)
    assert {number for number in range(300) if number % 3 == 0} <= set(served)
    assert database.pool.in_use == 0 and database.pool.size <= 3
    database.stop()
