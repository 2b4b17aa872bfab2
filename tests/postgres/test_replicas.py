"""Reads from a real streaming replica (pg_basebackup): who wrote reads what he wrote, and a replica that cannot is left out."""

from collections.abc import Iterator

import gevent
import pytest
from killing import SWITCHES_MAXIMUM, killed_at
from private_servers import PrivatePostgres

from nucleon import App, SetupError
from nucleon.config import loading
from nucleon.message import Model
from nucleon.postgres import Postgres, Settings, StatementFailed
from nucleon.testing import Client, TcpProxy
from nucleon.testing.waiting import eventually


class NewThing(Model):
    name: str


class Thing(NewThing):
    from_replica: bool


ALL = "select name, pg_is_in_recovery() as from_replica from things order by name"


@pytest.fixture(scope="module")
def primary(postgres_template):
    server = PrivatePostgres(postgres_template, synchronous_commit="on")
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def standby(primary):
    server = PrivatePostgres.standby_of(primary)
    server.start()
    yield server
    server.close()


@pytest.fixture
def things(primary, standby):
    primary.administer("drop table if exists things")
    primary.administer("create table things (name text)")
    primary.administer("insert into things values ('a')")
    eventually(lambda: count_on(standby) == [(1,)])


def count_on(server):
    try:
        return server.administer("select count(*) from things")
    except Exception:  # noqa: BLE001  the table has not come yet
        return None


def service(dsn, *replicas, **settings):
    app = App("shop")
    options = {"cursor_key": "k" * 32, "replica_check_seconds": 0.05, "replica_lag_seconds": 5.0, **settings}
    db = app.use(Postgres(dsn=dsn, replicas=replicas, **options))

    @app.get("/things", read_only=True)
    def list_things() -> list[Thing]:
        return db.all(Thing, ALL)

    @app.get("/things.ndjson", read_only=True)
    def stream_things() -> Iterator[Thing]:
        yield from db.stream(Thing, ALL)

    @app.get("/fresh")
    def list_fresh() -> list[Thing]:
        return db.all(Thing, ALL)

    @app.post("/things")
    def add_thing(body: NewThing) -> None:
        with db.transaction():
            db.execute("insert into things values (%s)", body.name)

    @app.get("/wrong", read_only=True)
    def write() -> None:
        db.execute("insert into things values ('wrong')")

    return app, db


def usable(db):
    return [replica.is_usable for replica in db.pool.replicas]


@pytest.fixture
def shop(primary, standby, things):
    app, db = service(primary.dsn, standby.dsn)
    with Client(app) as client:
        eventually(lambda: usable(db) == [True])
        yield client, db


def names(answer):
    assert answer.status == 200, answer.text
    return [thing["name"] for thing in answer.json()], answer.json()[0]["from_replica"]


def set_cookie(answer):
    return answer.headers.get("set-cookie")


def cookie_of(answer):
    return {"Cookie": set_cookie(answer).partition(";")[0]}


@pytest.fixture
def paused(standby):
    standby.administer("select pg_wal_replay_pause()")
    eventually(lambda: standby.administer("select pg_get_wal_replay_pause_state()") == [("paused",)])
    yield
    standby.administer("select pg_wal_replay_resume()")


def test_routes_that_only_read_ask_the_replica_and_others_the_primary(shop):
    client, _ = shop
    assert names(client.get("/things")) == (["a"], True)
    assert names(client.get("/fresh")) == (["a"], False)
    assert '"from_replica":true' in client.get("/things.ndjson").text.replace(" ", "")


def test_who_wrote_reads_what_he_wrote(shop, paused):
    client, _ = shop
    answer = client.post("/things", json={"name": "b"})
    field = set_cookie(answer)
    assert "Max-Age=60" in field and "HttpOnly" in field and "SameSite=Lax" in field
    assert names(client.get("/things", headers=cookie_of(answer))) == (["a", "b"], False)
    assert names(client.get("/things", headers={"Cookie": "a=b"})) == (["a"], True), "others read from the replica, a moment behind"


def test_once_the_replica_has_it_the_writer_reads_there_again(shop):
    client, _ = shop
    cookie = cookie_of(client.post("/things", json={"name": "b"}))
    eventually(lambda: names(client.get("/things", headers=cookie)) == (["a", "b"], True))


def test_a_position_that_was_made_up_or_is_too_old_is_ignored(primary, standby, things, paused):
    app, db = service(primary.dsn, standby.dsn, position_seconds=0.2)
    with Client(app) as client:
        eventually(lambda: usable(db) == [True])
        cookie = cookie_of(client.post("/things", json={"name": "b"}))["Cookie"]
        forged = cookie[:-4] + ("AAAA" if not cookie.endswith("AAAA") else "BBBB")
        assert names(client.get("/things", headers={"Cookie": forged}))[1] is True
        assert names(client.get("/things", headers={"Cookie": "nucleon_position_postgres="}))[1] is True
        gevent.sleep(0.25)
        assert names(client.get("/things", headers={"Cookie": cookie}))[1] is True


def test_reading_does_not_move_the_position(shop):
    client, _ = shop
    assert set_cookie(client.get("/fresh")) is None and set_cookie(client.get("/things")) is None


def test_a_write_in_a_route_that_only_reads_is_the_programs_fault(shop):
    client, db = shop
    answer = client.get("/wrong")
    assert answer.status == 500 and not db.pool.closed_by_reason and usable(db) == [True]
    assert names(client.get("/things")) == (["a"], True)


def test_a_replica_that_lags_is_left_out_until_it_is_back(primary, standby, things):
    app, db = service(primary.dsn, standby.dsn, replica_lag_seconds=0.3)
    with Client(app) as client:
        eventually(lambda: usable(db) == [True])
        standby.administer("select pg_wal_replay_pause()")
        primary.administer("insert into things values ('b')")
        eventually(lambda: usable(db) == [False])
        assert names(client.get("/things")) == (["a", "b"], False)
        standby.administer("select pg_wal_replay_resume()")
        eventually(lambda: usable(db) == [True])
        assert names(client.get("/things")) == (["a", "b"], True)


def test_a_replica_far_behind_at_the_start_is_not_used_until_it_has_caught_up(primary, standby, things, paused):
    primary.administer("insert into things values ('b')")
    app, db = service(primary.dsn, standby.dsn)
    with Client(app) as client:
        gevent.sleep(0.3)
        assert usable(db) == [False] and names(client.get("/things")) == (["a", "b"], False)
        standby.administer("select pg_wal_replay_resume()")
        eventually(lambda: usable(db) == [True])


def test_a_dead_replica_costs_nobody_an_error_and_comes_back(shop, standby):
    client, db = shop
    standby.kill()
    assert [names(client.get("/things")) for _ in range(10)] == [(["a"], False)] * 10
    assert usable(db) == [False]
    standby.start()
    eventually(lambda: usable(db) == [True])
    assert names(client.get("/things")) == (["a"], True)


def test_reads_go_on_while_the_primary_is_away(shop, primary):
    client, _ = shop
    primary.kill()
    try:
        assert [names(client.get("/things")) for _ in range(5)] == [(["a"], True)] * 5
        answer = client.post("/things", json={"name": "b"}, headers={"Request-Timeout": "1"})
        assert answer.status == 503
    finally:
        primary.start()
    eventually(lambda: client.post("/things", json={"name": "c"}).status == 204)


def test_a_replica_in_a_black_hole_costs_a_bounded_wait_and_then_nothing(primary, standby, things):
    with TcpProxy(standby.address) as proxy:
        replica = f"host=127.0.0.1 port={proxy.port} user=nucleon dbname=postgres"
        app, db = service(primary.dsn, replica, validation_seconds=0.2, validate_after_seconds=0.01, connect_seconds=0.3)
        with Client(app) as client:
            eventually(lambda: usable(db) == [True])
            proxy.blackhole()
            eventually(lambda: usable(db) == [False] or client.get("/things", headers={"Request-Timeout": "1"}).status == 0)
            with gevent.Timeout(2):
                assert [names(client.get("/things")) for _ in range(5)] == [(["a"], False)] * 5
            proxy.pass_through()
            eventually(lambda: usable(db) == [True])


@pytest.mark.parametrize("late_seconds", [0, 0.001])
def test_killed_at_every_switch_it_gives_each_connection_back_to_its_own_pool(shop, late_seconds):
    _, db = shop
    replica = db.pool.replicas[0].pool

    def work():
        with db.reading():
            db.value("select 1")
            with db.transaction(read_only=True):
                db.value("select 2")
        db.execute("insert into things values ('k')")

    for number in range(1, SWITCHES_MAXIMUM):
        outcome = killed_at(number, work, late_seconds)
        eventually(lambda: replica.in_use == 0 and not db.pool._lent and usable(db) == [True])
        with db.reading():
            assert [db.value("select %s", letter) for letter in "AB"] == ["A", "B"]
        assert db.value("select pg_is_in_recovery()") is False
        if outcome == "never so often":
            break
    assert 3 <= number < SWITCHES_MAXIMUM


def test_jobs_read_from_a_replica_from_a_position_on(shop):
    _, db = shop
    seen = "select pg_is_in_recovery()"
    assert db.value(seen) is False
    with db.reading():
        assert db.value(seen) is True
        with db.transaction(read_only=True):
            assert db.value(seen) is True
        with pytest.raises(StatementFailed), db.transaction():
            db.execute("insert into things values ('x')")
    db.execute("insert into things values ('y')")
    position = db.position()
    with db.reading(after=position):
        assert "y" in db.values("select name from things")
    assert position > 0 and db.value(seen) is False


def test_the_primary_itself_may_stand_in_for_a_replica_in_development(primary, things):
    app, db = service(primary.dsn, f"{primary.dsn} options='-c default_transaction_read_only=on'")
    with Client(app) as client:
        eventually(lambda: usable(db) == [True])
        assert client.get("/wrong").status == 500 and names(client.get("/things")) == (["a"], False)


def test_without_replicas_nothing_is_different(primary, things):
    app, db = service(primary.dsn)
    with Client(app) as client:
        answer = client.post("/things", json={"name": "b"})
        assert answer.status == 204 and set_cookie(answer) is None
        assert names(client.get("/things")) == (["a", "b"], False) and db.position() == 0


def test_only_get_may_be_said_to_only_read():
    app = App("shop")

    @app.post("/things", read_only=True)
    def add() -> None: ...

    with pytest.raises(SetupError, match="read_only= is for GET and HEAD"):
        app.check()


def test_replicas_are_settings_and_secret():
    variables = {"NUCLEON_ENV": "production", "NUCLEON_POSTGRES__REPLICAS": "postgresql://u:pw1@a,b/x postgresql://u:pw2@c/x"}
    config = loading.load({"postgres": Settings}, variables=variables)
    assert [one.reveal() for one in config.sections["postgres"].replicas] == ["postgresql://u:pw1@a,b/x", "postgresql://u:pw2@c/x"]
    assert "pw1" not in str(list(config.rows())) and "pw1" not in repr(config.sections["postgres"])
