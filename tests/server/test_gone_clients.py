"""Clients that leave while their request runs, and clients that take their answer too slowly."""

import logging
import socket
import struct
from collections.abc import Iterator
from typing import Any

import gevent.event
import pytest
from hosting import Hosted, hosted

from nucleon import green
from nucleon.testing import eventually


class Slow:
    """Waits until it is told to answer, and remembers how each request ended."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.go = gevent.event.Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        method = environ["REQUEST_METHOD"]
        self.began.append(method)
        try:
            self.go.wait()
        except BaseException as error:
            self.ended.append((method, type(error).__name__))
            raise
        self.ended.append((method, "answered"))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]


@pytest.fixture
def slow() -> Iterator[Hosted]:
    with hosted(Slow()) as served:
        yield served


def begun(served: Hosted, method: str) -> socket.socket:
    connection = socket.create_connection(served.address, timeout=10)
    connection.sendall(f"{method} /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    eventually(lambda: served.app.began)
    return connection


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_get_whose_client_resets_the_connection_is_ended_and_logged(slow: Hosted, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "nucleon.server"):
        reset(begun(slow, "GET"))
        eventually(lambda: slow.app.ended)
    assert slow.app.ended == [("GET", "GreenletExit")]
    assert "has gone: the request is ended" in caplog.text
    eventually(lambda: not slow.server.connections)
    slow.app.go.set()
    with begun(slow, "GET") as next_one:
        assert next_one.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_post_whose_client_has_gone_is_finished(slow: Hosted) -> None:
    reset(begun(slow, "POST"))
    eventually(lambda: any(one.eof for one in slow.server.connections))
    slow.app.go.set()
    eventually(lambda: slow.app.ended == [("POST", "answered")])


def test_a_client_that_closes_only_its_own_half_gets_its_answer(slow: Hosted) -> None:
    with begun(slow, "GET") as connection:
        connection.shutdown(socket.SHUT_WR)
        eventually(lambda: any(one.eof for one in slow.server.connections))
        slow.app.go.set()
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_the_end_of_input_from_a_trusted_proxy_means_that_the_client_has_gone() -> None:
    with hosted(Slow(), trusted_proxies=("127.0.0.0/8",)) as served:
        begun(served, "GET").close()
        eventually(lambda: served.app.ended)
        assert served.app.ended == [("GET", "GreenletExit")]


def endless_events(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/event-stream; charset=utf-8")])
    yield b"data: 1\n\n"
    gevent.event.Event().wait()


def test_a_stream_of_events_does_not_hold_up_a_stop(caplog: pytest.LogCaptureFixture) -> None:
    with hosted(endless_events) as served, socket.create_connection(served.address, timeout=10) as listener:
        listener.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"data: 1" in listener.recv(1000)
        with caplog.at_level(logging.INFO, "nucleon.server"):
            served.server.stop_accepting()
            assert served.server.drain(20) == 0
        assert listener.recv(1000) == b""
    assert "end with the server" in caplog.text


def big_answers(_environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"x" * 20_000_000]


def test_an_answer_that_is_taken_below_the_minimum_rate_is_dropped() -> None:
    with hosted(big_answers, write_seconds=0.3, write_bytes_per_second=100_000_000) as served:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(10)
            connection.connect(served.address)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(2000)
            while served.server.connections:  # it takes steadily, but far below the rate
                assert connection.recv(2000)
                green.sleep(0.005)


def test_an_answer_that_is_taken_slowly_but_above_the_rate_arrives_whole() -> None:
    with hosted(big_answers, write_seconds=0.3, write_bytes_per_second=1) as served:
        with socket.create_connection(served.address, timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            taken = 0
            while piece := connection.recv(1_000_000):
                taken += len(piece)
                green.sleep(0.01)
        assert taken > 20_000_000
