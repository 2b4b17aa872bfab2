"""A statement gives the same whether psycopg2's cursor runs it or libpq does (compiled; interpreted, both are the cursor)."""

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import gevent
import psycopg2
import psycopg2.extensions
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nucleon import green
from nucleon.errors import DeadlineExceeded
from nucleon.postgres import Postgres, direct, exchange
from nucleon.postgres.connection import Connection
from nucleon.postgres.failures import FIELDS
from nucleon.testing.waiting import eventually


@pytest.fixture
def connection(db: Postgres) -> Iterator[Connection]:
    slot = db.pool.take()
    yield slot.thing
    if not slot.thing.closed:
        slot.thing.rollback()
    db.pool.give_back(slot, "of the test")


def told(execute: Any, connection: Connection, statement: str, parameters: Any) -> Any:
    """Return everything that can be seen of a statement."""
    try:
        columns, rows, touched, status, source = execute(connection, statement, parameters)
    except psycopg2.Error as error:
        diagnostics = {name: getattr(error.diag, name) for name in FIELDS}
        return type(error).__name__, isinstance(error, psycopg2.DatabaseError), error.pgcode, str(error), error.pgerror, diagnostics
    except ValueError as error:
        return str(error)
    types = [[type(value) for value in row] for row in rows]
    return columns, rows, types, touched, status, [source.origin(at) for at in range(len(columns))]


SLEEPS = "select count(*) from pg_stat_activity where pid = %s and query like '%%pg_sleep%%'"

STATEMENTS = [
    ("select 1 as a, 'x' as b, null as c, true as d, 1.5::float8 as e, 1.5 as f", None),
    ("select 9223372036854775807, -1::int2, 'NaN'::float8, '-Infinity'::float4, 2::oid", None),
    (
        "select '2026-02-03'::date, now()::timestamptz - now(), '10:00'::time, '2026-02-03 10:00+02'::timestamptz",
        None,
    ),
    (
        "select '{1,2,null}'::int[], '{a,\"b c\"}'::text[], '[1,3)'::int4range, '\\x00ff'::bytea, '{\"a\": [1]}'::json",
        None,
    ),
    ("select gen_random_uuid() is not null, 'b3f0a1de-1111-4222-8333-944444444444'::uuid, 'änd€rs'::text, ''::text", None),
    ("select id as number, name from items", None),
    ("select * from items where false", None),
    ("select", None),
    ("values (1, 'a'), (2, null)", None),
    ("insert into items (name) values ('a'), ('b') returning name", None),
    ("update items set price = 1 where false", None),
    ("delete from items", None),
    ("create temporary table seen_once (a int); drop table seen_once", None),
    ("select 1; select 2 as second", None),
    ("select 1; select 1/0", None),
    ("begin; select 3 as three", None),
    ("select %s, %s::text, %s", (1, "it's", None)),
    ("select 5 -%s, %s - 3", (-2, -4)),
    ("select 'a' || %s || '100%%', %s", ("%s", "back\\slash 'and' \"quotes\" ☃")),
    ("select %s, %s, %s, %s", (True, 1.5, [1, 2], b"\x00\xff")),
    ("select %(b)s, %(a)s, %(a)s", {"a": 1, "b": "two"}),
    ("select '100%', 'it is %s'", None),
    ("select 1 where 1 in %s", ((1, 2),)),
    ("select * from nothing_here", None),
    ("selec 1", None),
    ("insert into items (id, price) values (1, 1)", None),
    ("insert into items (id, name, price) values (1, 'x', -1)", None),
    ("do $$ begin raise exception 'own' using errcode = 'ZZ123', detail = 'more', hint = 'less'; end $$", None),
    ("do $$ begin raise notice 'by the way'; end $$", None),
    ("", None),
    ("select %s", ("a\0b",)),
]


@pytest.mark.parametrize(("statement", "parameters"), STATEMENTS)
def test_both_ways_give_the_same(connection: Connection, statement: str, parameters: Any) -> None:
    seen = []
    for execute in (direct.execute, exchange.execute):
        exchange.execute(connection, "begin", None)
        seen.append(told(execute, connection, statement, parameters))
        exchange.execute(connection, "rollback", None)
    assert seen[0] == seen[1] or repr(seen[0]) == repr(seen[1])  # NaN differs from itself


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_categories=["Cs"])), st.none()), min_size=1, max_size=4
    )
)
def test_parameters_are_put_in_as_psycopg2_does(connection: Connection, parameters: list[Any]) -> None:
    statement = "select " + ", ".join("0 -%s::numeric" if isinstance(value, int) else "%s::text" for value in parameters)
    assert told(direct.execute, connection, statement, tuple(parameters)) == told(
        exchange.execute, connection, statement, tuple(parameters)
    )


@pytest.mark.parametrize(
    "setting", ["standard_conforming_strings = off", "client_encoding = 'LATIN1'", "datestyle = 'German'", "intervalstyle = 'iso_8601'"]
)
def test_what_a_session_has_set_is_heeded(connection: Connection, setting: str) -> None:
    exchange.execute(connection, f"set {setting}", None)
    for parameters in (("a\\nb'c",), ("ä",)):
        assert told(direct.execute, connection, "select %s::text, 'ö'", parameters) == told(
            exchange.execute, connection, "select %s::text, 'ö'", parameters
        )


def test_types_and_adapters_of_the_service_are_heeded(connection: Connection) -> None:
    psycopg2.extensions.register_type(psycopg2.extensions.new_type((23,), "PLUS", lambda text, cursor: int(text) + 100), connection)
    kept = psycopg2.extensions.adapters[int, psycopg2.extensions.ISQLQuote]
    try:
        psycopg2.extensions.register_adapter(int, lambda value: psycopg2.extensions.AsIs(value * 2))
        assert direct.execute(connection, "select %s", (21,)).rows == [(142,)]
    finally:
        psycopg2.extensions.register_adapter(int, kept)
    assert direct.execute(connection, "select %s", (21,)).rows == [(121,)]


def test_a_connection_with_a_cursor_of_its_own_uses_it(connection: Connection) -> None:
    seen = []

    class Watching(psycopg2.extensions.cursor):
        def execute(self, query: Any, vars: Any = None) -> None:
            seen.append(query)
            super().execute(query, vars)

    connection.cursor_factory = Watching
    assert direct.execute(connection, "select 7", None).rows == [(7,)]
    assert seen == ["select 7"]


def test_copy_is_refused_with_advice_and_the_connection_closed(db: Postgres) -> None:
    slot = db.pool.take()
    with pytest.raises(psycopg2.ProgrammingError):
        direct.execute(slot.thing, "copy items to stdout", None)
    db.pool.give_back(slot, "of the test")


def test_a_closed_connection_says_so(db: Postgres) -> None:
    slot = db.pool.take()
    slot.thing.shut()
    with pytest.raises(psycopg2.InterfaceError, match="closed"):
        direct.execute(slot.thing, "select 1", None)
    db.pool.give_back(slot, "of the test")


def test_a_lost_connection_is_an_operational_error_and_closed(db: Postgres) -> None:
    slot = db.pool.take()
    running = gevent.spawn(lambda: told(direct.execute, slot.thing, "select pg_sleep(10)", None))
    pid = slot.thing.get_backend_pid()
    eventually(lambda: db.value(SLEEPS, pid))
    db.execute("select pg_terminate_backend(%s)", pid)
    name, _, code, *_ = running.get(timeout=5)
    assert (name, code) in (("AdminShutdown", "57P01"), ("OperationalError", None))
    assert slot.thing.closed
    db.pool.give_back(slot, "of the test")


def test_notices_do_not_pile_up(connection: Connection) -> None:
    for _ in range(200):
        direct.execute(connection, "do $$ begin raise notice 'by the way'; end $$", None)
    assert len(connection.notices) <= 50
    exchange.execute(connection, "do $$ begin raise notice 'the last'; end $$", None)
    assert "the last" in connection.notices[-1]


def test_a_statement_larger_than_any_buffer_is_sent_and_its_answer_read(connection: Connection) -> None:
    text = "x" * 30_000_000
    (row,) = direct.execute(connection, "select %s || 'y', 5", (text,)).rows
    assert len(row[0]) == len(text) + 1 and row[1] == 5


def test_a_server_that_stands_still_while_a_large_statement_is_sent_costs_its_deadline(db: Postgres) -> None:
    slot = db.pool.take()
    connection = slot.thing
    pid = connection.get_backend_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        with green.deadline(0.2), pytest.raises(DeadlineExceeded):
            direct.execute(connection, "select length(%s)", ("x" * 50_000_000,))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert connection.closed
    db.pool.give_back(slot, "of the test")


def test_a_kill_in_the_middle_closes_the_connection_and_ends_the_statement(db: Postgres) -> None:
    slot = db.pool.take()
    pid = slot.thing.get_backend_pid()
    running = gevent.spawn(direct.execute, slot.thing, "select pg_sleep(30)", None)
    eventually(lambda: db.value(SLEEPS, pid))
    running.kill()
    assert slot.thing.closed
    db.pool.give_back(slot, "of the test")
    eventually(lambda: not db.value("select count(*) from pg_stat_activity where pid = %s", pid))


def test_nothing_keeps_a_connection_that_is_shut(db: Postgres) -> None:
    slot = db.pool.take()
    direct.execute(slot.thing, "select 1", None)
    slot.thing.shut()
    db.pool.give_back(slot, "of the test")
    del slot
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, Connection) and one.closed and one.scribe is not None]
