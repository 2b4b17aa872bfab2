"""Two clusters and a promotion; servers that are full, read-only, frozen, slow to accept."""

import os
import signal
from time import monotonic

import gevent
import psycopg2
import pytest
from private_servers import PrivatePostgres

from nucleon import green
from nucleon.errors import DeadlineExceeded, Problem, Unavailable
from nucleon.postgres import Away, Postgres, StatementFailed
from nucleon.testing import TcpProxy
from nucleon.testing.waiting import eventually


@pytest.fixture
def standby(postgres_server):
    postgres_server.administer("create table t (n int)")
    server = PrivatePostgres.standby_of(postgres_server)
    server.start()
    yield server
    server.close()


def seconds_until_a_write_succeeds(database, number):
    started = monotonic()
    while True:
        try:
            with green.deadline(1):
                database.execute("insert into t values (%s)", number)
            return monotonic() - started
        except Problem:
            assert monotonic() - started < 15
            gevent.sleep(0.02)


def test_after_a_promotion_the_first_write_succeeds_within_five_seconds(postgres_server, standby):
    hosts = f"host={postgres_server.sockets},{standby.sockets} port=5432 user=nucleon dbname=postgres"
    database = Postgres(dsn=f"{hosts} target_session_attrs=read-write", maximum=4)
    database.start()
    database.execute("insert into t values (1)")
    eventually(lambda: standby.administer("select count(*) from t") == [(1,)])
    postgres_server.kill()
    with pytest.raises(Unavailable), green.deadline(0.5):
        database.execute("insert into t values (2)")
    standby.promote()
    assert seconds_until_a_write_succeeds(database, 3) < 5
    assert database.values("select n from t order by n") == [1, 3]
    database.stop()


def test_a_server_that_became_read_only_is_left_and_the_name_is_asked_again(postgres_server, standby):
    with TcpProxy(postgres_server.address) as name:
        database = Postgres(dsn=f"host=127.0.0.1 port={name.port} user=nucleon dbname=postgres", maximum=4)
        database.start()
        gevent.joinall([gevent.spawn(database.execute, "select pg_sleep(0.05)") for _ in range(4)], raise_error=True)
        eventually(lambda: database.execute("insert into t values (1)"))
        standby.promote()
        postgres_server.administer("alter system set default_transaction_read_only = on")  # the old one is fenced, its sessions live
        postgres_server.administer("select pg_reload_conf()")
        name.upstream = standby.address
        eventually(lambda: database.value("show transaction_read_only") == "on")
        with pytest.raises(Away):
            database.execute("insert into t values (2)")
        assert database.pool.closed_by_reason["read-only"] >= 2, "idle ones lead to the same server"
        assert seconds_until_a_write_succeeds(database, 3) < 5
        assert database.values("select n from t where n > 1") == [3] and database.pool.in_use == 0
        database.stop()


def test_a_write_on_a_read_only_server_in_a_transaction_evicts_too(postgres_dsn):
    database = Postgres(dsn=f"{postgres_dsn} options='-c default_transaction_read_only=on'")
    database.start()
    with pytest.raises(Away), database.transaction():
        database.execute("create table never (n int)")
    assert database.pool.closed_by_reason == {"read-only": 1}
    database.stop()


def test_a_write_in_a_read_only_transaction_is_the_programs_fault_and_evicts_nothing(db):
    with pytest.raises(StatementFailed), db.transaction(read_only=True):
        db.execute("insert into items (name) values ('a')")
    assert not db.pool.closed_by_reason


def test_a_server_that_is_full_is_shared_and_waited_for(postgres_template):
    options = {"max_connections": "6", "superuser_reserved_connections": "0", "max_wal_senders": "0"}
    server = PrivatePostgres(postgres_template, **options)
    server.start()
    others = [psycopg2.connect(server.dsn) for _ in range(4)]
    database = Postgres(dsn=server.dsn, maximum=10)
    database.start()
    try:
        workers = [gevent.spawn(database.value, "select 1 from pg_sleep(0.05)") for _ in range(20)]
        gevent.joinall(workers, raise_error=True)
        assert database.pool.created <= 2 and "too many clients" in str(database.pool._opening.failure)
    finally:
        for other in others:
            other.close()
        database.stop()
        server.close()


def test_a_full_disk_is_503_and_the_connection_goes_on(postgres_server):
    postgres_server.administer("create table t (n int)")
    [(path,)] = postgres_server.administer("select pg_relation_filepath('t')")
    file = postgres_server.data / path
    file.unlink()
    file.symlink_to("/dev/full")  # whoever writes there hears ENOSPC
    database = Postgres(dsn=postgres_server.dsn)
    database.start()
    with pytest.raises(Away) as caught:
        database.execute("insert into t values (1)")
    assert caught.value.__cause__.pgcode == "53100" and caught.value.status == 503
    assert database.value("select 1") == 1 and database.pool.created == 1
    database.stop()


def test_a_frozen_postmaster_bounds_new_connects_and_leaves_sessions_alone(postgres_server):
    database = Postgres(dsn=postgres_server.dsn, maximum=2, connect_seconds=0.3, wait_seconds=0.6)
    database.start()
    database.value("select 1")
    os.kill(postgres_server.pid, signal.SIGSTOP)
    try:
        with database.transaction():
            assert database.value("select 2") == 2
            started = monotonic()
            with pytest.raises(Unavailable):
                gevent.spawn(database.value, "select 3").get()
            assert monotonic() - started < 1
    finally:
        os.kill(postgres_server.pid, signal.SIGCONT)
    gevent.joinall([gevent.spawn(database.value, "select 4 from pg_sleep(0.02)") for _ in range(4)], raise_error=True)
    database.stop()


def test_sessions_that_the_server_ends_for_idleness_cost_nobody_an_error(postgres_server):
    database = Postgres(dsn=f"{postgres_server.dsn} options='-c idle_session_timeout=50'", maximum=4, validate_after_seconds=60)
    database.start()
    for _ in range(3):
        gevent.joinall([gevent.spawn(database.value, "select 1") for _ in range(4)], raise_error=True)
        count = "select count(*) from pg_stat_activity where application_name = 'nucleon'"
        eventually(lambda count=count: postgres_server.administer(count) == [(0,)])
    assert database.pool.closed_by_reason["dead"] >= 3
    database.stop()


def test_a_storm_of_takers_is_two_connects_at_a_time_with_back_off(postgres_template):
    server = PrivatePostgres(postgres_template, log_connections="receipt")
    server.start()
    server.administer("create database shop")
    server.administer("alter database shop allow_connections false")
    with TcpProxy(server.address) as proxy:
        proxy.delay(0.02)
        database = Postgres(
            dsn=f"host=127.0.0.1 port={proxy.port} user=nucleon dbname=shop sslmode=disable", maximum=40, wait_seconds=1.5, bridge_seconds=5
        )
        database.start()
        most = []
        watcher = gevent.spawn(lambda: [(most.append(proxy.open_connections), gevent.sleep(0.005)) for _ in range(10_000)])
        workers = [gevent.spawn(database.value, "select 1") for _ in range(200)]
        gevent.joinall(workers)
        assert all(isinstance(worker.exception, Unavailable) for worker in workers)
        tries = server.log.read_text().count("connection received") - 2
        assert 2 <= tries <= 40 and max(most) <= 4, (tries, max(most))  # a closed one lingers in the proxy for its delay
        server.administer("alter database shop allow_connections true")
        assert eventually(lambda: answers(database)) == 1
        watcher.kill()
        database.stop()
    server.close()


def test_a_black_hole_ends_at_the_deadline_and_at_the_checkout(shared_postgres):
    with TcpProxy(shared_postgres.address) as proxy:
        database = Postgres(
            dsn=f"host=127.0.0.1 port={proxy.port} user=nucleon dbname=postgres", maximum=4, minimum=4, cancel_grace_seconds=0.1,
            validate_after_seconds=0.05, validation_seconds=0.2, connect_seconds=0.3, wait_seconds=0.8,
        )  # fmt: skip
        database.start()
        eventually(lambda: database.pool.numbers()["idle"] == 4)
        running = gevent.spawn(database.execute, "select pg_sleep(0.3)")
        with green.deadline(0.5):
            late = green.spawn(database.execute, "select pg_sleep(20)")
        eventually(lambda: database.pool.in_use == 2)
        proxy.blackhole()
        started = monotonic()
        with pytest.raises(DeadlineExceeded):
            late.get()
        assert monotonic() - started < 0.9
        started = monotonic()
        with pytest.raises(Unavailable):
            database.value("select 1")
        assert monotonic() - started < 1.2, "the checkout is bounded, and says what it found"
        proxy.pass_through()
        running.get(timeout=5)
        assert eventually(lambda: answers(database)) == 1
        assert database.pool.in_use == 0
        database.stop()


def answers(database):
    try:
        return database.value("select 1")
    except Unavailable:
        return None
