"""The fault table against a real server and a proxy that breaks the wire."""

import os
import signal
from time import monotonic

import gevent
import gevent.event
import pytest

from nucleon import green
from nucleon.errors import DeadlineExceeded, Problem, Unavailable
from nucleon.postgres import Away, OutcomeUnknown, PoolExhausted, Postgres, SelfDeadlock
from nucleon.testing.waiting import eventually

KILL_OTHERS = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where application_name = 'victim'"


@pytest.fixture
def victim(fresh_postgres_dsn):
    database = Postgres(dsn=fresh_postgres_dsn, maximum=4, application_name="victim")
    database.start()
    gevent.joinall([gevent.spawn(database.execute, "select pg_sleep(0.05)") for _ in range(4)], raise_error=True)
    yield database
    database.stop()


def failures_of(database, times=8):
    failed = 0
    for _ in range(times):
        try:
            database.value("select 1")
        except Problem:
            failed += 1
    return failed


def test_killed_idle_connections_cost_nobody_an_error(victim, db):
    assert db.value(KILL_OTHERS) >= 2
    assert failures_of(victim) == 0


def test_a_restarted_server_costs_nobody_an_error(postgres_server):
    database = Postgres(dsn=postgres_server.dsn, maximum=4)
    database.start()
    assert failures_of(database) == 0
    postgres_server.restart()
    assert failures_of(database) == 0
    database.stop()


def test_a_stopped_server_is_503_and_comes_back(postgres_server):
    database = Postgres(dsn=postgres_server.dsn, wait_seconds=0.3)
    database.start()
    database.health()
    postgres_server.stop()
    with pytest.raises(Unavailable) as caught:
        database.health()
    assert caught.value.headers["Retry-After"]
    postgres_server.start()
    green_again = monotonic() + 8
    while failures_of(database, 1) and monotonic() < green_again:
        gevent.sleep(0.05)
    assert failures_of(database) == 0
    database.stop()


def test_a_connection_killed_in_use_fails_that_statement_only(victim, db):
    running = gevent.spawn(victim.execute, "select pg_sleep(30)")
    while not db.value("select count(*) from pg_stat_activity where query = 'select pg_sleep(30)' and state = 'active'"):
        gevent.sleep(0.01)
    db.value(KILL_OTHERS)
    with pytest.raises(Away):
        running.get(timeout=2)
    assert failures_of(victim) == 0 and victim.pool.in_use == 0


def test_a_frozen_server_ends_at_the_deadline(postgres_server):
    database = Postgres(dsn=postgres_server.dsn, cancel_grace_seconds=0.1, validate_after_seconds=60)
    database.start()
    pid = database.value("select pg_backend_pid()")
    os.kill(pid, signal.SIGSTOP)
    started = monotonic()
    try:
        with pytest.raises(DeadlineExceeded), green.deadline(0.3):
            database.value("select 1")
        assert monotonic() - started < 0.8
        assert database.value("select 1") == 1, "the next one gets a new connection"
    finally:
        os.kill(pid, signal.SIGCONT)
    database.stop()


def test_a_frozen_connection_is_found_out_at_checkout(postgres_server):
    database = Postgres(dsn=postgres_server.dsn, validate_after_seconds=0.0, validation_seconds=0.2, cancel_grace_seconds=0.1)
    database.start()
    pid = database.value("select pg_backend_pid()")
    os.kill(pid, signal.SIGSTOP)
    try:
        with green.deadline(3):
            assert database.value("select pg_backend_pid()") != pid
    finally:
        os.kill(pid, signal.SIGCONT)
    database.stop()


def test_exhaustion_is_fair_bounded_and_tells_numbers(fresh_postgres_dsn):
    database = Postgres(dsn=fresh_postgres_dsn, maximum=2, wait_seconds=0.3)
    database.start()
    served = []
    workers = [gevent.spawn(lambda n=n: (database.execute("select pg_sleep(0.1)"), served.append(n))) for n in range(12)]
    gevent.joinall(workers)
    refused = [worker.exception for worker in workers if worker.exception]
    in_line = all(served[at] < served[at + 2] for at in range(len(served) - 2))  # two at a time; who is refused has left the line
    assert in_line and len(served) >= 2 and refused, "first come, first served"
    assert all(isinstance(error, PoolExhausted) and error.status == 503 for error in refused)
    assert "2 of 2 connections in use" in refused[0].detail and refused[0].headers["Retry-After"]
    database.stop()


def test_holding_one_and_asking_for_a_second_that_cannot_come_says_so(fresh_postgres_dsn):
    database = Postgres(dsn=fresh_postgres_dsn, maximum=1)
    database.start()
    with database.connection(), pytest.raises(SelfDeadlock):
        database.value("select 1")
    database.stop()


def test_a_connection_lost_during_commit_leaves_the_outcome_unknown(victim, db):
    db.execute("create table slow (a int)")
    victim.execute("create function wait() returns trigger language plpgsql as 'begin perform pg_sleep(30); return null; end'")
    victim.execute("create table t (a int)")
    victim.execute("create constraint trigger late after insert on t deferrable initially deferred for each row execute function wait()")

    def work():
        with victim.transaction():
            victim.execute("insert into t values (1)")

    running = gevent.spawn(work)
    while not db.value("select count(*) from pg_stat_activity where query = 'COMMIT' and state = 'active'"):
        gevent.sleep(0.01)
    db.value(KILL_OTHERS)
    with pytest.raises(OutcomeUnknown):
        running.get(timeout=3)
    assert victim.pool.in_use == 0


def test_a_forked_child_opens_its_own(victim):
    parent = set(victim.values("select pid from pg_stat_activity where application_name = 'victim'"))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(victim.value("select pg_backend_pid()")).encode())
        finally:
            os._exit(0)
    os.close(writer)
    pid = int(os.read(reader, 20))
    os.close(reader)
    os.waitpid(child, 0)
    assert pid not in parent and failures_of(victim) == 0


def test_a_wrong_password_is_told_at_once(postgres_dsn):
    database = Postgres(dsn=postgres_dsn + " dbname=nowhere", wait_seconds=5)
    database.start()
    started = monotonic()
    with pytest.raises(Away):
        database.health()
    assert monotonic() - started < 2
    database.stop()


def test_a_cancel_that_races_with_the_end_never_hits_a_later_statement(victim):
    ended = {"late": 0, "in time": 0}
    for number in range(60):
        try:
            with green.deadline(0.005 + number % 20 / 1000):
                assert victim.value("select %s from pg_sleep(0.02)", number) == number
            ended["in time"] += 1
        except DeadlineExceeded:
            ended["late"] += 1
        assert [victim.value("select %s", digit) for digit in range(3)] == [0, 1, 2]
    assert ended["late"] and victim.pool.in_use == 0


def test_a_statement_that_ended_before_its_cancel_arrived_takes_its_connection_along(victim, monkeypatch):
    monkeypatch.setattr("nucleon.postgres.connection.cancel", lambda _connection: None)  # as if it were on its way still
    with green.deadline(0.02):
        assert victim.value("select 1 from pg_sleep(0.1)") == 1  # it was done within the time that a cancel is waited for
    assert "cancelled late 1" in repr(victim)


def test_a_pool_that_was_exhausted_for_long_serves_everyone_in_turn_when_it_is_released(fresh_postgres_dsn):
    database = Postgres(dsn=fresh_postgres_dsn, maximum=2, wait_seconds=30)
    database.start()
    release, served = gevent.event.Event(), []

    def hold():
        with database.transaction():
            database.value("select 1")
            release.wait()

    holders = [gevent.spawn(hold) for _ in range(2)]
    eventually(lambda: database.pool.in_use == 2)
    waiters = [gevent.spawn(lambda n=n: (database.value("select 1"), served.append(n))) for n in range(200)]
    eventually(lambda: database.pool.waiting == 200)
    release.set()
    gevent.joinall([*holders, *waiters], raise_error=True)
    assert sorted(served) == list(range(200)) and set(served[:6]) <= set(range(10)) and database.pool.size == 2
    database.stop()
