"""A connection that is lost before the answer came: what may have been written is told as unknown, the rest as away."""

import gevent
import gevent.event
import pytest

from nucleon import green
from nucleon.errors import Unavailable
from nucleon.postgres import Away, OutcomeUnknown, Postgres
from nucleon.postgres.session import may_write
from nucleon.testing import TcpProxy
from nucleon.testing.waiting import eventually


@pytest.fixture
def proxy(shared_postgres):
    with TcpProxy(shared_postgres.address) as proxy:
        yield proxy


@pytest.fixture
def far(proxy, fresh_postgres_dsn, db):
    """The database of `db`, through the proxy, with one warm connection."""
    name = db.value("select current_database()")
    database = Postgres(dsn=f"host=127.0.0.1 port={proxy.port} user=nucleon dbname={name}", maximum=2)
    database.start()
    database.health()
    yield database
    proxy.pass_through()
    assert eventually(lambda: answers(database)) == 1 and database.pool.in_use == 0
    database.stop()


def answers(database):
    try:
        return database.value("select 1")
    except Unavailable:
        return None


def lost(proxy, db, action, has_happened):
    """Run the action; its answer is held back until it has happened on the server, then the connection is reset."""
    proxy.blackhole("to_client")
    running = gevent.spawn(action)
    eventually(lambda: db.value(has_happened))
    proxy.reset()
    return running


def test_a_write_that_lost_its_connection_has_an_unknown_outcome_and_is_not_tried_again(far, proxy, db):
    written = "select count(*) from items"
    running = lost(proxy, db, lambda: far.execute("insert into items (name) values ('a')"), written)
    with pytest.raises(OutcomeUnknown) as caught:
        running.get(timeout=3)
    assert caught.value.status == 500 and "Retry-After" not in caught.value.headers, "a 503 would be sent again by its client"
    assert db.value(written) == 1, "it was written, and once"


def test_a_row_written_by_its_table_is_told_the_same(far, proxy, db):
    running = lost(proxy, db, lambda: far.insert(dict, "items", {"name": "a"}), "select count(*) from items")
    with pytest.raises(OutcomeUnknown):
        running.get(timeout=3)


def test_a_commit_that_arrived_but_lost_its_answer_has_an_unknown_outcome(far, proxy, db):
    inserted, go_on = gevent.event.Event(), gevent.event.Event()

    def work():
        with far.transaction():
            far.execute("insert into items (name) values ('a')")
            inserted.set()
            go_on.wait()

    running = gevent.spawn(work)
    inserted.wait()
    proxy.blackhole("to_client")
    go_on.set()
    eventually(lambda: db.value("select count(*) from items"))
    proxy.reset()
    with pytest.raises(OutcomeUnknown, match="during COMMIT"):
        running.get(timeout=3)
    assert db.value("select count(*) from items") == 1


@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_read_or_a_transaction_before_its_commit_is_away_and_wrote_nothing(far, proxy, db, in_transaction):
    def work():
        if not in_transaction:
            return far.value("select 1 from pg_sleep(30)")
        with far.transaction():
            return far.execute("insert into items (name) select 'a' from pg_sleep(30)")

    sleeping = "select count(*) from pg_stat_activity where query like '%pg_sleep(30)' and state = 'active' and pid <> pg_backend_pid()"
    running = lost(proxy, db, work, sleeping)
    with pytest.raises(Away) as caught:
        running.get(timeout=3)
    assert caught.value.status == 503 and caught.value.headers["Retry-After"]
    db.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where query like '%pg_sleep(30)' and pid <> pg_backend_pid()")
    assert db.value("select count(*) from items") == 0


@pytest.mark.parametrize(
    ("statement", "writes"),
    [
        ("select 1", False), ("-- why\n /* and how */ (select update_count from t)", False), ("values (1)", False),
        ("with a as (select 1) select * from a", False), ("with a as (delete from t returning *) select * from a", True),
        ("insert into t values (1)", True), ("call settle()", True), ("select * into new from t", True), ("", True),
    ],
)  # fmt: skip
def test_what_is_a_plain_read(statement, writes):
    assert may_write(statement) is writes


def test_when_dns_is_gone_open_connections_go_on_and_new_ones_come_back_with_it(proxy, monkeypatch):
    is_gone = False

    def resolve(host, port):
        if is_gone:
            raise OSError("Temporary failure in name resolution")
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(green, "resolve", resolve)
    dsn = f"host=db.invalid port={proxy.port} user=nucleon dbname=postgres"
    database = Postgres(dsn=dsn, maximum=2, wait_seconds=0.3, bridge_seconds=0.1)
    database.start()
    database.health()
    is_gone = True
    assert [database.value("select 1") for _ in range(5)] == [1] * 5, "nobody needs the name while connections are open"
    database.pool.evict("test")
    with pytest.raises(Unavailable) as caught:
        database.value("select 1")
    assert caught.value.headers["Retry-After"] and "db.invalid" not in str(caught.value)
    is_gone = False
    assert eventually(lambda: answers(database)) == 1 and database.pool.in_use == 0
    database.stop()
