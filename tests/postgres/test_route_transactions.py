"""`transaction=True`: one transaction around a route, committed before the first byte, rolled back when anything goes wrong."""

from collections.abc import Iterator

import gevent
import pytest
from killing import killed_at_switch

from nucleon import App, Conflict, Request, Response, SetupError
from nucleon.postgres import Postgres, TransactionMisused


@pytest.fixture
def app(db):
    app = App("shop", transaction=True)
    app.use(db)

    @app.post("/items/{name}")
    def add(name: str) -> None:
        db.execute("insert into items (name) values (%s)", name)
        if name == "bad":
            raise Conflict("no")

    @app.get("/write")
    def write() -> None:
        db.execute("insert into items (name) values ('x')")

    @app.get("/nothing")
    def nothing() -> dict[str, int]:
        return db.pool.numbers()

    @app.post("/swallow")
    def swallow() -> None:
        with pytest.raises(Conflict):
            db.many("insert into items (name) values %s", [("same",), ("same",)])

    @app.post("/stream/{count}")
    def stream(count: int) -> Iterator[int]:
        for number in range(count):
            db.execute("insert into items (name) values (%s)", str(number))
            yield number

    return app


def post(app: App, path: str, method: str = "POST") -> Response:
    return app.respond(Request(method, path))


def count_of(db: Postgres) -> int:
    return db.value(int, "select count(*) from items")


def test_a_route_commits_before_it_answers_and_rolls_back_when_it_raises(app, db):
    assert post(app, "/items/cup").status == 204 and count_of(db) == 1
    assert post(app, "/items/bad").status == 409 and count_of(db) == 1
    assert post(app, "/items/cup").status == 409 and count_of(db) == 1
    assert db.pool.in_use == 0


def test_get_is_read_only(app, db):
    assert post(app, "/write", "GET").status == 500 and count_of(db) == 0


def test_a_route_without_statements_takes_no_connection(app, db):
    assert b'"in_use":0' in post(app, "/nothing", "GET").body and db.pool.created <= 1


def test_an_error_swallowed_in_a_nested_transaction_does_not_end_the_outer_one(app, db):
    assert post(app, "/swallow").status == 204 and count_of(db) == 0


def test_a_stream_commits_after_its_last_row_and_not_when_it_is_cut_off(app, db):
    response = post(app, "/stream/3")
    assert count_of_elsewhere(db) == 0
    assert b"".join(response.chunks()) == b"0\n1\n2\n"
    assert count_of_elsewhere(db) == 0, "not yet: it is open until it is closed"
    response.close()
    assert count_of(db) == 3
    response = post(app, "/stream/9")
    next(response.chunks())
    response.close()
    assert count_of(db) == 3 and db.pool.in_use == 0


def count_of_elsewhere(db: Postgres) -> int:
    greenlet = gevent.spawn(count_of, db)
    return greenlet.get(timeout=5)


def test_a_request_killed_at_any_switch_leaves_no_connection_and_no_half_a_transaction(db):
    app = App("shop", transaction=True)
    app.use(db)

    @app.post("/two")
    def two() -> None:
        for _ in range(2):
            db.execute("insert into items (name) values ((select 'n' || count(*) from items))")

    count_before, ended_by_itself, kills = 0, False, 0
    while not ended_by_itself:
        kills += 1
        ended_by_itself = killed_at_switch(kills, lambda: post(app, "/two"))
        count = count_of(db)
        assert count in (count_before, count_before + 2) and db.pool.in_use == 0
        count_before = count
    assert kills >= 4, "started, two statements, COMMIT"
    assert db.value("select count(*) from pg_stat_activity where state like 'idle in transaction%'") == 0


def test_which_database_is_meant_has_to_be_clear(db, fresh_postgres_dsn):
    app = App("shop")

    @app.get("/", transaction=True)
    def read() -> None: ...

    with pytest.raises(SetupError, match="transaction=True needs one database, and the app has none"):
        app.check()
    app.use(db)
    app.check()
    app.use(Postgres(dsn=fresh_postgres_dsn), name="reports")
    with pytest.raises(SetupError, match="the app has postgres, reports: name it"):
        app.check()

    other = App("other")
    other.use(db)
    other.get("/", transaction="nowhere")(read)
    with pytest.raises(SetupError, match="names no database"):
        other.check()


def test_a_handlers_own_transaction_is_a_savepoint_and_takes_no_options(app, db):
    @app.post("/own")
    def own() -> None:
        with pytest.raises(TransactionMisused), db.transaction(retries=3):
            raise AssertionError("not reached")
        with db.transaction():
            db.execute("insert into items (name) values ('own')")

    assert post(app, "/own").status == 204 and db.values("select name from items") == ["own"]
