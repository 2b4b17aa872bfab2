"""Streams of events that have nothing to say yet."""

import logging
import socket
from collections.abc import Iterator

import gevent.event
import pytest
from hosting import Hosted, hosted

from nucleon.errors import NotFound
from nucleon.message import Request, Response

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Silent:
    """A stream of events that begins when it is told to, with an event or with an error."""

    def __init__(self) -> None:
        self.go = gevent.event.Event()
        self.error: Exception | None = None
        self.media = "text/event-stream"

    def respond(self, _request: Request) -> Response:
        return Response(self.pieces(), 200, [("Content-Type", self.media)])

    def pieces(self) -> Iterator[bytes]:
        self.go.wait()
        if self.error is not None:
            raise self.error
        yield b"data: 1\n\n"


@pytest.fixture
def silent() -> Iterator[Hosted]:
    with hosted(Silent()) as served:
        yield served


def everything(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_the_head_does_not_wait_for_the_first_event(silent: Hosted) -> None:
    with socket.create_connection(silent.address, timeout=10) as connection:
        connection.sendall(GET)
        head = connection.recv(10_000)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert head.endswith(b"\r\n\r\n")
        silent.app.go.set()
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection) == b"9\r\ndata: 1\n\n\r\n0\r\n\r\n"


def test_an_error_before_the_head_has_left_has_its_own_status(silent: Hosted) -> None:
    silent.app.error = NotFound("no such room")
    silent.app.go.set()
    with socket.create_connection(silent.address, timeout=10) as connection:
        connection.sendall(GET)
        assert connection.recv(10_000).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("error", [NotFound("no such room"), ValueError("broken")])
def test_an_error_after_the_head_cuts_the_stream_off(silent: Hosted, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    silent.app.error = error
    with socket.create_connection(silent.address, timeout=10) as connection, caplog.at_level(logging.CRITICAL, "nucleon.server"):
        connection.sendall(GET)
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200 ")
        silent.app.go.set()
        assert everything(connection) == b""


def test_a_request_killed_before_its_first_event_leaves_nothing(silent: Hosted) -> None:
    with socket.create_connection(silent.address, timeout=10) as connection:
        connection.sendall(GET)
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200 ")
        silent.server.stop_accepting()
        assert silent.server.drain(0.0) in (0, 1)
        assert everything(connection) == b""


def test_the_head_of_another_stream_waits_for_its_first_piece(silent: Hosted) -> None:
    silent.app.media = "text/plain"
    with socket.create_connection(silent.address, timeout=0.5) as connection:
        connection.sendall(GET)
        with pytest.raises(TimeoutError):
            connection.recv(10_000)
        silent.app.go.set()
        assert b"data: 1" in connection.recv(10_000)
