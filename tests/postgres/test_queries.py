"""Statements in, models out, errors as problems."""

import gevent
import pytest

from nucleon.errors import DeadlineExceeded
from nucleon.green import deadline
from nucleon.message import Model
from nucleon.postgres import AlreadyExists, ConstraintFailed, NoRow, Postgres, SeveralRows, StatementFailed, StillReferenced


class Item(Model):
    id: int
    name: str
    price: float


def add(db: Postgres, name: str = "cup", price: float = 1.5) -> Item:
    return db.one(Item, "insert into items (name, price) values (%s, %s) returning *", name, price)


def test_a_row_becomes_a_model(db):
    assert add(db) == Item(id=1, name="cup", price=1.5)
    assert db.one(Item, "select * from items where name = %(name)s", name="cup").id == 1


def test_a_nul_in_a_text_is_the_callers_fault(db):
    with pytest.raises(ConstraintFailed, match="NUL"):
        add(db, "c\0p")
    with pytest.raises(ConstraintFailed, match="NUL"), db.transaction():
        add(db, "c\0p")
    assert db.values("select name from items") == []


def test_columns_that_the_model_lacks_are_left_out(db):
    add(db)
    assert db.one(Item, "select *, now() as extra from items").name == "cup"


def test_no_row_is_a_404_and_two_rows_are_a_fault(db):
    with pytest.raises(NoRow):
        db.one(Item, "select * from items")
    assert db.maybe_one(Item, "select * from items") is None
    add(db), add(db, "pot")
    with pytest.raises(SeveralRows):
        db.one(Item, "select * from items")


def test_values_and_counts(db):
    assert db.many("insert into items (name, price) values %s", [("a", 1), ("b", 2)]) == 2
    assert db.values("select name from items order by id") == ["a", "b"]
    assert db.value(int, "select count(*) from items") == 2
    assert db.value("select '{\"a\": [1]}'::jsonb") == {"a": [1]}
    assert db.execute("update items set price = price + 1") == 2
    assert db.all(dict, "select name from items where id = 1") == [{"name": "a"}]


@pytest.mark.parametrize(
    ("statement", "problem", "status"),
    [
        ("insert into items (name, price) values ('cup', 1)", AlreadyExists, 409),
        ("insert into items (name, price) values ('pot', -1)", ConstraintFailed, 422),
        ("insert into items (price) values (1)", ConstraintFailed, 422),
        ("insert into lines values (77)", StillReferenced, 409),
        ("selec", StatementFailed, 500),
    ],
)
def test_a_refusal_is_a_problem_that_shows_no_values(db, statement, problem, status):
    add(db)
    db.execute("create table lines (item int references items)")
    with pytest.raises(problem) as caught:
        db.execute(statement)
    assert caught.value.status == status
    assert "77" not in caught.value.detail and "cup" not in caught.value.detail


def test_300_greenlets_at_10_connections_all_succeed(db):
    running = [gevent.spawn(db.value, "select 1 from pg_sleep(0.05)") for _ in range(300)]
    gevent.joinall(running, raise_error=True)
    assert [one.value for one in running] == [1] * 300
    assert db.pool.size <= 10


def test_a_slow_statement_ends_at_the_deadline_on_the_server_too(db):
    db.value("select 1")
    with pytest.raises(DeadlineExceeded), deadline(0.2):
        db.execute("select pg_sleep(30)")
    assert db.value("select count(*) from pg_stat_activity where query = 'select pg_sleep(30)' and state = 'active'") == 0
    assert db.pool.created == 1, "the connection answered the cancel and was kept"


def test_a_killed_greenlet_ends_its_statement_and_gives_its_slot_back(db):
    sleeper = gevent.spawn(db.execute, "select pg_sleep(30)")
    while not db.value("select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(30)'"):
        gevent.sleep(0.01)
    sleeper.kill()
    assert db.pool.in_use == 0
    while db.value("select count(*) from pg_stat_activity where query = 'select pg_sleep(30)'"):
        gevent.sleep(0.01)
    assert [db.value("select 'B'") for _ in range(8)] == ["B"] * 8


def test_a_stream_comes_in_batches_and_closes_its_cursor(db):
    db.execute("insert into items (name, price) select i, i from generate_series(1, 2000) i")
    assert [item.id for item in db.stream(Item, "select * from items order by id", batch_rows=300)] == list(range(1, 2001))
    rows = db.stream(Item, "select * from items order by id")
    assert next(rows).id == 1
    assert db.pool.in_use == 1
    rows.close()
    assert db.pool.in_use == 0 and db.value("select count(*) from pg_cursors") == 0
