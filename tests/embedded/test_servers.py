"""One server in a folder: start, stop, restart, pause."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from nucleon.embedded import PostgresServer, ValkeyServer


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="a very long folder name " + "x" * 120))
    yield folder
    shutil.rmtree(folder)


def rows(dsn: str, sql: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(dsn, connect_timeout=10)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def ask(address: tuple[str, int], line: bytes) -> bytes:
    with socket.create_connection(address, timeout=5) as client:
        client.sendall(line + b"\r\n")
        return client.recv(100)


def test_postgres_keeps_its_address_and_data_over_restarts(folder: Path) -> None:
    server = PostgresServer(folder, tcp=True, options={"fsync": "off"})
    try:
        server.start()
        rows(server.dsn, "create table t as select 7 as x")
        rows(server.dsn, "checkpoint")
        for mode in ("fast", "immediate"):
            before = server.pid
            server.restart(mode)
            assert server.pid != before
            assert rows(server.tcp_dsn, "select x from t") == [(7,)]
        server.stop()
        assert not server.is_running()
        with pytest.raises(psycopg2.OperationalError):
            rows(server.dsn, "select 1")
    finally:
        server.discard()
    assert not server.data.exists()


def test_a_paused_server_accepts_and_does_not_answer(folder: Path) -> None:
    server = ValkeyServer(folder, tcp=True)
    try:
        server.start()
        server.pause()
        with pytest.raises(TimeoutError), socket.create_connection(("127.0.0.1", server.port), timeout=0.2) as client:
            client.sendall(b"PING\r\n")
            client.recv(100)
        server.resume()
        assert ask(("127.0.0.1", server.port), b"PING") == b"+PONG\r\n"
        assert ask(("127.0.0.1", server.port), b"SET k v") == b"+OK\r\n"
        server.restart()
        assert ask(("127.0.0.1", server.port), b"GET k") == b"$1\r\nv\r\n"
        server.pause()
    finally:
        server.discard()
