"""Streams: as fast as the client reads, in bounded memory, and over when the client leaves."""

import socket
from collections.abc import Iterator

import gevent
import pytest

from nucleon import App, green
from nucleon.errors import DeadlineExceeded
from nucleon.message import Model
from nucleon.postgres import Postgres
from nucleon.server import Server, Settings
from nucleon.testing.waiting import eventually


class Row(Model):
    id: int
    filling: str


ROWS = 20_000
MANY = f"select i as id, repeat('x', 1000) as filling from generate_series(1, {ROWS}) i"


class Service:
    """An app that streams rows, served in this process; `yielded` counts them."""

    def __init__(self, db: Postgres, **extras) -> None:
        self.yielded = 0
        app = App("streams", **extras)
        app.use(db)

        @app.get("/rows")
        def rows() -> Iterator[Row]:
            for row in db.stream(Row, MANY, batch_rows=100):
                self.yielded += 1
                yield row

        self.listener = listener = green.listen(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.server = Server(app, Settings())
        self.server.add_listener(listener)
        self.server.start()

    def connect(self) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
        client.connect(self.address)
        client.sendall(b"GET /rows HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return client


@pytest.fixture(params=[{}, {"transaction": True}], ids=["by itself", "in a transaction"])
def service(request, db):
    service = Service(db, **request.param)
    yield service
    service.server.stop()
    service.listener.close()


def test_a_stream_waits_for_a_slow_client_and_then_gives_every_row(service, db):
    with service.connect() as client:
        eventually(lambda: service.yielded > 0)
        stalled = eventually(lambda: unchanged(service))
        assert stalled < ROWS / 2, "the rest waits in the database, not in memory"
        size = 0
        while piece := client.recv(1_000_000):
            size += len(piece)
    assert service.yielded == ROWS and size > ROWS * 1000
    eventually(lambda: db.pool.in_use == 0)


def unchanged(service: Service) -> int:
    before = service.yielded
    gevent.sleep(0.2)
    return before if service.yielded == before else 0


def test_a_client_that_leaves_ends_the_cursor_and_frees_the_connection(service, db):
    client = service.connect()
    assert client.recv(1000)
    assert db.value("select count(*) from pg_stat_activity where query like 'FETCH %' and datname = current_database()") == 1
    client.close()
    eventually(lambda: db.pool.in_use == 0)
    assert service.yielded < ROWS
    assert db.value("select count(*) from pg_stat_activity where state like 'idle in transaction%'") == 0


def test_a_stream_killed_at_any_switch_gives_its_connection_back(db):
    from killing import killed_at_switch

    kills, ended = 0, False
    while not ended:
        kills += 1
        ended = killed_at_switch(kills, lambda: [row.id for row in db.stream(Row, MANY + " limit 30", batch_rows=10)])
        assert db.pool.in_use == 0
    assert kills > 5
    assert db.value("select count(*) from pg_stat_activity where state like 'idle in transaction%'") == 0


def test_a_batch_that_does_not_come_ends_the_stream(fresh_postgres_dsn):
    db = Postgres(dsn=fresh_postgres_dsn, stream_seconds=0.2)
    slow = "select i as id, case when i > 3 then pg_sleep(30)::text else '' end as filling from generate_series(1, 9) i"
    rows = db.stream(Row, slow, batch_rows=3)
    assert [next(rows).id for _ in range(3)] == [1, 2, 3]
    with pytest.raises(DeadlineExceeded):
        next(rows)
    assert db.pool.in_use == 0
    db.stop()


def test_many_killed_at_any_switch_writes_all_or_nothing(db):
    from killing import killed_at_switch

    kills, ended = 0, False
    while not ended:
        kills += 1
        db.execute("delete from items")
        names = [(f"{kills}-{number}",) for number in range(30)]
        ended = killed_at_switch(kills, lambda names=names: db.many("insert into items (name) values %s", names, page_size=10))
        assert db.value("select count(*) from items") in (0, 30) and db.pool.in_use == 0
    assert kills > 4
