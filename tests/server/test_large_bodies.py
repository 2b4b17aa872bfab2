"""Request bodies of many pieces, received where the application will have them."""

import random
import socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from hosting import Hosted, hosted

from nucleon import green
from nucleon.errors import DeadlineExceeded
from nucleon.testing import eventually

MEGABYTE = 1_048_576


class Reader:
    """Reads a body as its path says, and keeps what it got, or how reading failed."""

    def __init__(self) -> None:
        self.began = 0
        self.bodies: list[bytes] = []
        self.failed: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.began += 1
        source, size = environ["wsgi.input"], int(environ["PATH_INFO"][1:])
        try:
            pieces = [source.read()] if size < 0 else list(iter(lambda: source.read(size), b""))
        except BaseException as error:
            self.failed.append(type(error).__name__)
            if not isinstance(error, DeadlineExceeded):
                raise
            with pytest.raises(Exception, match="interrupted"):
                source.read()
            pieces = []
        self.bodies.append(b"".join(pieces))
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
        return [b"done"]


class Slow:
    """A body whose reader does something else before each read: what comes meanwhile is held by the connection."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def read(self, size: int) -> bytes:
        green.sleep(0.001)
        data: bytes = self.source.read(size)
        return data


@pytest.fixture
def reader() -> Iterator[Hosted]:
    with hosted(Reader(), body_bytes=8 * MEGABYTE) as served:
        yield served


def head(path: str, length: int) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def answers(connection: socket.socket, count: int) -> bytes:
    seen = b""
    while seen.count(b"done") < count:
        data = connection.recv(65_536)
        assert data, seen
        seen += data
    return seen


@pytest.mark.parametrize("size", [-1, 1, 1_000, 65_536, 300_000, 2_000_000])
def test_a_body_of_megabytes_is_read_whole_and_the_request_behind_it_is_answered(reader: Hosted, size: int) -> None:
    body = random.Random(size).randbytes(3 * MEGABYTE + 17 if size != 1 else 100_000)
    with socket.create_connection(reader.address, timeout=10) as connection:
        connection.sendall(head(f"/{size}", len(body)) + body + head("/-1", 5) + b"after")
        answers(connection, 2)
    assert reader.app.bodies == [body, b"after"]


def test_a_body_that_comes_in_odd_pieces_is_the_same(reader: Hosted) -> None:
    body = random.Random(1).randbytes(900_000)
    with socket.create_connection(reader.address, timeout=10) as connection:
        connection.sendall(head("/-1", len(body)))
        for at in range(0, len(body), 70_001):
            connection.sendall(body[at : at + 70_001])
            green.sleep(0)
        answers(connection, 1)
    assert reader.app.bodies == [body]


def test_an_application_that_waits_between_its_reads_gets_every_byte_in_order() -> None:
    class Waits(Reader):
        def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
            return super().__call__({**environ, "wsgi.input": Slow(environ["wsgi.input"])}, start_response)

    body = random.Random(2).randbytes(2 * MEGABYTE)
    with hosted(Waits(), body_bytes=8 * MEGABYTE) as served, socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(head("/50000", len(body)) + body)
        answers(connection, 1)
    assert served.app.bodies == [body]


def test_a_body_that_comes_faster_than_it_is_read_leaves_the_others_their_turn(reader: Hosted) -> None:
    with socket.create_connection(reader.address, timeout=10) as large, socket.create_connection(reader.address, timeout=10) as small:
        pusher = gevent.spawn(large.sendall, head("/1000", 8 * MEGABYTE) + bytes(8 * MEGABYTE))
        eventually(lambda: reader.app.began)
        small.sendall(head("/-1", 1) + b"x")
        answers(small, 1)
        assert reader.app.bodies == [b"x"]
        pusher.join()
        answers(large, 1)


def test_reading_that_a_deadline_ended_does_not_go_on_in_the_middle_of_the_body() -> None:
    with hosted(Reader(), deadline_seconds=0.05, body_bytes=8 * MEGABYTE) as served:
        served.server.grace_seconds = 0.05
        with socket.create_connection(served.address, timeout=10) as connection:
            connection.sendall(head("/-1", MEGABYTE) + bytes(300_000))
            assert b"Connection: close" in answers(connection, 1)
    assert (served.app.failed, served.app.bodies) == (["DeadlineExceeded"], [b""])


@pytest.mark.parametrize("sent", [0, 100, 300_000])
def test_a_client_that_ends_within_a_large_body_is_told_so(reader: Hosted, sent: int) -> None:
    with socket.create_connection(reader.address, timeout=10) as connection:
        connection.sendall(head("/-1", MEGABYTE) + bytes(sent))
        eventually(lambda: reader.app.began)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert reader.app.failed == ["BadRequest"]


def test_a_request_killed_within_its_body_gives_its_connection_back(reader: Hosted) -> None:
    with socket.create_connection(reader.address, timeout=10) as connection:
        connection.sendall(head("/-1", MEGABYTE) + bytes(300_000))
        eventually(lambda: reader.app.began)
        reader.server.stop_accepting()
        assert reader.server.drain(0.0) == 1
        eventually(lambda: not reader.server.connections)
    assert reader.app.failed == ["GreenletExit"]
