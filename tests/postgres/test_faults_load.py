"""A server that crashes, and is restarted, under load: errors only while it is down, every committed row once."""

import http.client
import json
from itertools import count
from time import monotonic

import gevent
import pytest
from private_servers import PrivatePostgres
from service_fixtures import make_tables

from nucleon.errors import Problem
from nucleon.postgres import AlreadyExists, Postgres
from nucleon.testing.waiting import eventually


@pytest.fixture
def durable(postgres_template):
    server = PrivatePostgres(postgres_template, synchronous_commit="on")
    server.start()
    yield server
    server.close()


def test_a_crash_under_load_of_two_workers_costs_errors_only_while_it_is_down(durable, serve):
    make_tables(durable.dsn)
    service = serve("miniature:app", "--workers", "2", dsn=durable.dsn, NUCLEON_TEST_POSTGRES__MAXIMUM="4")
    answers, numbers, ended = [], count(), []

    def client():
        connection = http.client.HTTPConnection(*service.address, timeout=20)
        while not ended:
            name = f"n{next(numbers)}"
            connection.request("POST", "/names", json.dumps({"name": name}), {"Content-Type": "application/json"})
            begun, response = monotonic(), connection.getresponse()
            response.read()
            answers.append((begun, response.status, name, response.getheader("Retry-After")))
            gevent.sleep(0.005)
        connection.close()

    clients = [gevent.spawn(client) for _ in range(12)]
    eventually(lambda: len(answers) > 200)
    durable.kill()
    down = monotonic()
    gevent.sleep(0.3)
    durable.start()
    up = monotonic()
    eventually(lambda: sum(begun > up for begun, *_ in answers) > 200, within_seconds=20)
    ended.append(True)
    gevent.joinall(clients, raise_error=True)
    failed = [answer for answer in answers if answer[1] != 201]
    assert not [answer for answer in failed if answer[0] > up], "errors only while it was down"
    in_flight = [answer for answer in failed if answer[1] != 503]
    assert all(status == 500 and begun < down for begun, status, *_ in in_flight), "outcome unknown: only what the crash interrupted"
    assert all(retry for _, status, _, retry in failed if status == 503), "the others are told when to come back"
    kept = [name for (name,) in durable.administer("select name from names")]
    assert {name for _, status, name, _ in answers if status == 201} <= set(kept) and len(kept) == len(set(kept))
    assert not {name for _, status, name, _ in answers if status == 503} & set(kept), "what is told as a 503 was not written"
    assert len(failed) <= 12, "only what was in flight"


def test_restarts_under_load_lose_and_double_nothing(durable):
    durable.administer("create table t (n int primary key)")
    database = Postgres(dsn=durable.dsn, maximum=4)
    database.start()
    told, numbers, ended = {}, count(), []

    def work():
        while not ended:
            number = next(numbers)
            try:
                with database.transaction():
                    database.execute("insert into t values (%s)", number)
                told[number] = "committed"
            except AlreadyExists:
                told[number] = "twice"
            except Problem as problem:
                told[number] = type(problem).__name__

    workers = [gevent.spawn(work) for _ in range(20)]
    for mode in ("fast", "immediate"):
        done = len(told)
        eventually(lambda done=done: len(told) > done + 100)
        durable.restart(mode)
    done = len(told)
    eventually(lambda: len(told) > done + 100)
    ended.append(True)
    gevent.joinall(workers, raise_error=True)
    kept = {number for (number,) in durable.administer("select n from t")}
    committed = {number for number, how in told.items() if how == "committed"}
    unknown = {number for number, how in told.items() if how == "OutcomeUnknown"}
    assert committed <= kept <= committed | unknown, "what failed with a known outcome is not there"
    assert "twice" not in told.values() and database.pool.in_use == 0
    sessions = "select count(*) from pg_stat_activity where application_name = 'nucleon'"
    eventually(lambda: durable.administer(sessions) == [(database.pool.size,)])  # one may still be opening
    database.stop()


def test_connections_grow_old_and_are_replaced_under_load_without_an_error(fresh_postgres_dsn):
    database = Postgres(dsn=fresh_postgres_dsn, maximum=4, minimum=2, lifetime_seconds=0.3)
    database.start()
    ends = monotonic() + 1.5

    def work():
        while monotonic() < ends:
            assert database.value("select 1") == 1

    gevent.joinall([gevent.spawn(work) for _ in range(4)], raise_error=True)
    assert database.pool.closed_by_reason["lifetime"] >= 6 and set(database.pool.closed_by_reason) == {"lifetime"}
    eventually(lambda: database.pool.size >= 2)
    database.stop()
