"""The life of a server: deadlines, draining, overload, trusted proxies, Unix sockets."""

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hosting import hosted

from nucleon import green
from nucleon.errors import SetupError
from nucleon.message import Request, Response
from nucleon.server import Server, Settings
from nucleon.server.proxies import TrustedProxies


class Waiting:
    """An application whose answers wait until they are told."""

    def __init__(self) -> None:
        self.go = green.Event()
        self.seen: list[Request] = []
        self.left: list[str | None] = []
        self.closed = 0

    def respond(self, request: Request) -> Response:
        self.seen.append(request)
        if request.path == "/wait":
            import gevent

            gevent.sleep(0 if self.go.is_set() else 60)
        if request.path == "/go":
            self.go.wait()
        if request.path == "/stream":
            return Response(self._pieces(), on_close=self._closed)
        self.left.append(repr(green.remaining()))
        return Response(request.client.encode() + b" " + request.scheme.encode(), on_close=self._closed)

    def _pieces(self) -> Iterator[bytes]:
        yield b"one"
        self.go.wait()
        yield b"two"

    def _closed(self) -> None:
        self.closed += 1


def ask(address: Any, head: str, *, finish: bool = True) -> bytes:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head.encode())
        return everything(connection)


def everything(connection: socket.socket) -> bytes:
    seen = b""
    while data := connection.recv(65_536):
        seen += data
    return seen


def get(path: str, *lines: str) -> str:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *lines, "", ""])


def until(condition: Any) -> None:
    with green.deadline(5):
        while not condition():
            green.sleep(0.005)


def test_a_request_that_outlives_its_deadline_is_interrupted_and_answered_with_504() -> None:
    with hosted(Waiting(), deadline_seconds=0.05) as served:
        served.server.grace_seconds = 0.05
        answer = ask(served.address, get("/wait"))
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 504


def test_the_client_may_ask_for_a_smaller_deadline_only() -> None:
    app = Waiting()
    with hosted(app, deadline_seconds=20) as served:
        ask(served.address, get("/", "Request-Timeout: 3"))
        ask(served.address, get("/", "Request-Timeout: 3000"))
    assert float(app.left[0] or 0) <= 3 < float(app.left[1] or 0) <= 20


def test_draining_closes_idle_connections_and_lets_running_requests_finish() -> None:
    app = Waiting()
    with hosted(app) as served, socket.create_connection(served.address, timeout=10) as idle:
        with socket.create_connection(served.address, timeout=10) as running:
            running.sendall(b"GET /go HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: app.seen)
            served.server.stop_accepting()
            drained = green.spawn(served.server.drain, 5)
            assert idle.recv(10) == b""
            app.go.set()
            answer = everything(running)
        assert drained.get() == 0
    assert b"Connection: close\r\n" in answer
    assert app.closed == 1


def test_a_request_that_comes_on_a_kept_connection_while_draining_is_answered_and_the_last() -> None:
    app = Waiting()
    app.go.set()
    with hosted(app) as served, socket.create_connection(served.address, timeout=10) as kept:
        until(lambda: served.server.connections)
        served.server.stop_accepting()
        drained = green.spawn(served.server.drain, 5)
        until(lambda: served.server.draining)
        kept.sendall(b"GET /go HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = everything(kept)
        assert drained.get() == 0
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close\r\n" in answer


def test_a_request_that_outlives_the_drain_is_killed_and_named(caplog: pytest.LogCaptureFixture) -> None:
    app = Waiting()
    with hosted(app) as served, socket.create_connection(served.address, timeout=10) as running:
        running.sendall(b"GET /go?x HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: app.seen)
        with caplog.at_level(logging.WARNING, "nucleon.server"):
            assert served.server.drain(0.01) == 1
        assert running.recv(10) == b""
        assert "/go?x" in caplog.text
        assert not served.server.busy


def test_too_many_requests_at_once_are_sent_away_with_retry_after() -> None:
    app = Waiting()
    with hosted(app, max_concurrent_requests=1) as served, socket.create_connection(served.address, timeout=10) as running:
        running.sendall(b"GET /go HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        until(lambda: app.seen)
        refused = ask(served.address, get("/"))
        app.go.set()
        assert everything(running).startswith(b"HTTP/1.1 200 ")
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in refused
    assert len(app.seen) == 1


def test_a_stream_is_sent_as_it_comes_and_the_next_request_waits_its_turn() -> None:
    app = Waiting()
    with hosted(app) as served, socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        first = connection.recv(1000)
        assert first.endswith(b"3\r\none\r\n")
        connection.sendall(get("/").encode())
        connection.shutdown(socket.SHUT_WR)
        until(lambda: any(one.eof for one in served.server.connections))
        app.go.set()
        rest = everything(connection)
    assert rest.startswith(b"3\r\ntwo\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert app.closed == 2


def test_the_answers_to_pipelined_requests_leave_while_the_next_one_waits() -> None:
    app = Waiting()
    with hosted(app) as served, socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + get("/go").encode())
        seen = b""
        while seen.count(b"127.0.0.1 http") < 2:
            seen += connection.recv(65_536)
        until(lambda: len(app.seen) == 3)
        app.go.set()
        assert everything(connection).startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_answers_to_pipelined_requests_leave_before_the_rest_of_the_next_one_has_come() -> None:
    with hosted(Waiting()) as served, socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20 + b"GET / HTTP/1.1\r\n")
        seen = b""
        while seen.count(b"127.0.0.1 http") < 20:
            seen += connection.recv(65_536)
        connection.sendall(b"Host: x\r\nConnection: close\r\n\r\n")
        assert everything(connection).endswith(b"127.0.0.1 http")


def test_a_unix_socket_is_served_and_its_peer_trusted_when_named(tmp_path: Path) -> None:
    path = str(tmp_path / "server")
    server = Server(Waiting(), Settings(trusted_proxies=("unix",)))
    with green.listen(path) as listener:
        server.add_listener(listener)
        server.start()
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                connection.sendall(get("/", "X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https").encode())
                assert everything(connection).endswith(b"198.51.100.7 https")
        finally:
            server.stop()


def test_more_connections_than_allowed_wait_in_the_backlog_and_are_served_later() -> None:
    app = Waiting()
    with hosted(app, max_connections=1) as served:
        with socket.create_connection(served.address, timeout=10) as first:
            first.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert first.recv(1000)
            with socket.create_connection(served.address, timeout=10) as second:
                second.sendall(get("/").encode())
                first.close()
                assert everything(second).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("peer", "fields", "expected"),
    [
        ("192.0.2.9", {"x-forwarded-for": "6.6.6.6", "x-forwarded-proto": "https"}, ("192.0.2.9", "http")),
        ("10.0.0.1", {"x-forwarded-for": "6.6.6.6, 198.51.100.7, 10.0.0.2", "x-forwarded-proto": "https"}, ("198.51.100.7", "https")),
        ("10.0.0.1", {"x-forwarded-for": "unknown, 10.0.0.3"}, ("10.0.0.3", "http")),
        ("10.0.0.1", {"forwarded": 'for=6.6.6.6, for="[2001:db8::1]:99";proto=https'}, ("2001:db8::1", "https")),
        ("::ffff:10.0.0.1", {"x-forwarded-for": "198.51.100.7"}, ("198.51.100.7", "http")),
        ("10.0.0.1", {"x-forwarded-proto": "gopher"}, ("10.0.0.1", "http")),
    ],
)
def test_the_client_is_the_first_address_from_the_right_that_is_not_trusted(peer: str, fields: dict[str, str], expected: Any) -> None:
    assert TrustedProxies(("10.0.0.0/8",)).origin(peer, "http", fields) == expected


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(SetupError, match="idle_seconds"):
        Settings(idle_seconds=0)
    with pytest.raises(SetupError, match="trusted_proxies"):
        Server(Waiting(), Settings(trusted_proxies=("10.0.0.1/8",)))
