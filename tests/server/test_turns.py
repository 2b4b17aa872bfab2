"""What breaks in the middle of a turn costs its own request, and nobody else's."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.exceptions import BlockingSwitchOutError
from hosting import Hosted, hosted

from nucleon import App
from nucleon.green.threads import here
from nucleon.testing import eventually


class Breaking:
    """Does what the path says."""

    def __init__(self) -> None:
        self.stray: Any = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        hub = gevent.get_hub()
        match environ["PATH_INFO"]:
            case "/cancelled":
                raise asyncio.CancelledError
            case "/too-slow":
                with gevent.Timeout(0.001):
                    gevent.sleep(600)
            case "/left-behind":
                self.stray = gevent.Timeout(0.001)
                self.stray.start()
            case "/waits":
                hub.loop.run_callback(gevent.getcurrent().switch)
                here.thread.leave(hub)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"<done>"]


@pytest.fixture
def breaking() -> Iterator[Hosted]:
    with hosted(Breaking(), idle_seconds=600, head_seconds=600) as served:
        yield served


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """What has reached the hub."""
    kinds: list[type] = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda _context, kind, *_: kinds.append(kind))
    return kinds


def get(path: str) -> bytes:
    return b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode()


def answer(connection: socket.socket) -> bytes:
    """Return all up to `<done>`, or to the end."""
    seen = b""
    while not seen.endswith(b"<done>") and (data := connection.recv(65_536)):
        seen += data
    return seen


def asked(connection: socket.socket, path: str) -> bytes:
    connection.sendall(get(path))
    return answer(connection)


def opened(served: Hosted, count: int) -> list[socket.socket]:
    """Return connections that the server watches."""
    made = [socket.create_connection(served.address, timeout=10) for _ in range(count)]
    gevent.sleep(0)
    for connection in made:
        assert asked(connection, "").endswith(b"<done>")
    return made


def close(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("count", [1, 3])
def test_a_handler_that_ends_with_what_is_no_exception_costs_its_own_connection_and_the_server_goes_on(
    breaking: Hosted, failed: list[type], count: int
) -> None:
    connections = opened(breaking, 2 * count)
    for number, connection in enumerate(connections):
        connection.sendall(get("cancelled" if number % 2 == 0 else ""))
    answers = [answer(connection)[-6:] for connection in connections]
    assert answers == [b"", b"<done>"] * count
    assert failed == [asyncio.CancelledError] * count
    for connection in connections[1::2]:
        assert asked(connection, "").endswith(b"<done>")
    assert breaking.server.running == 0
    close(connections)


def test_a_first_request_that_ends_so_leaves_the_door_open(breaking: Hosted, failed: list[type]) -> None:
    connections = [socket.create_connection(breaking.address, timeout=10) for _ in range(3)]
    for connection, path in zip(connections, ["", "cancelled", ""], strict=True):  # all are here when the server comes to accept
        connection.sendall(get(path))
    assert [answer(connection)[-6:] for connection in connections] == [b"<done>", b"", b"<done>"]
    assert failed == [asyncio.CancelledError]
    close(connections + opened(breaking, 1))


def test_a_timer_that_a_handler_left_behind_hits_its_parked_worker_and_no_later_request(breaking: Hosted, failed: list[type]) -> None:
    (connection,) = opened(breaking, 1)
    assert asked(connection, "left-behind").endswith(b"<done>")
    eventually(lambda: failed == [gevent.Timeout])
    assert breaking.server.parked == 0
    assert asked(connection, "").endswith(b"<done>")
    breaking.app.stray.close()
    connection.close()


def test_a_log_handler_that_waits_is_not_woken_with_what_a_request_waits_for(breaking: Hosted) -> None:
    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                gevent.sleep(0.001)
            except BlockingSwitchOutError:
                said.append(record.getMessage()[:16])

    said: list[str] = []
    connections = opened(breaking, 4)
    for connection in connections:
        connection.sendall(get("waits"))
    for connection in connections:
        answer(connection)
    slow, log = Slow(), logging.getLogger("nucleon.server")
    log.addHandler(slow)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        for number, connection in enumerate(connections):
            connection.sendall(get("waits") if number % 2 == 0 else b"nonsense\r\n\r\n")
        answers = [answer(connection) for connection in connections]
    finally:
        log.setLevel(level)
        log.removeHandler(slow)
    assert [one[:12] for one in answers] == [b"HTTP/1.1 200", b"HTTP/1.1 400"] * 2
    assert said == ["refused with 400"] * 2
    close(connections)


def test_a_time_out_of_gevent_that_a_handler_does_not_catch_is_its_own_error(
    breaking: Hosted, failed: list[type], caplog: pytest.LogCaptureFixture
) -> None:
    (connection,) = opened(breaking, 1)
    connection.sendall(get("too-slow") + get("fine"))
    seen = answer(connection)
    assert seen.startswith(b"HTTP/1.1 500 ")
    assert seen.endswith(b"<done>")
    assert "Timeout: 0.001 second" in caplog.text
    assert failed == []
    connection.close()


def test_a_stream_that_a_time_out_of_gevent_ends_before_its_first_piece_is_an_error_with_a_status(failed: list[type]) -> None:
    app = App("streams")

    @app.get("/pieces")
    def pieces() -> Iterator[bytes]:
        with gevent.Timeout(0.001):
            gevent.sleep(600)
        yield b"never"

    with hosted(app) as served, socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(get("pieces"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 500 ")
    assert failed == []
