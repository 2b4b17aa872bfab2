"""Slow and vanishing clients: they are cut off in time, and nobody else notices."""

import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from echo_app import EchoApp
from hosting import Hosted, hosted
from raw_client import exchange

from nucleon import green

LIMIT_SECONDS = 0.5
GRACE_SECONDS = 2.5  # shared cores: the limits are in the settings, this only bounds the test
PING = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def hasty() -> Iterator[Hosted]:
    with hosted(EchoApp(), **HASTY) as served:
        yield served


HASTY: dict[str, Any] = {
    "head_seconds": LIMIT_SECONDS,
    "idle_seconds": LIMIT_SECONDS,
    "body_seconds": LIMIT_SECONDS,
    "write_seconds": LIMIT_SECONDS,
    "linger_seconds": 0.2,
}


def connected(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=LIMIT_SECONDS + GRACE_SECONDS)


def everything_from(connection: socket.socket) -> bytes:
    """Read to the end of the connection; `TimeoutError` when the server keeps it too long."""
    seen = b""
    try:
        while data := connection.recv(65_536):
            seen += data
    except ConnectionResetError:
        pass
    return seen


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def until(condition: Any, seconds: float = GRACE_SECONDS) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        green.sleep(0.01)
    return bool(condition())


def drip(connection: socket.socket, first: bytes, again: bytes) -> None:
    """Send a little at a time until the server has had enough."""
    try:
        connection.sendall(first)
        while again:
            green.sleep(0.05)
            connection.sendall(again)
    except OSError:
        return


SLOW = {
    "headers": (b"GET /t HTTP/1.1\r\nHost: x\r\nX-A: ", b"a"),
    "request-line": (b"G", b""),
    "silent": (b"", b""),
    "body": (b"POST /t HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"b"),
    "chunked-body": (b"POST /t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nb\r\n"),
    "empty-lines": (b"\r\n", b""),
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_client_that_is_too_slow_is_cut_off_with_408_or_nothing(hasty: Hosted, kind: str) -> None:
    hasty.app.forget()
    with connected(hasty.address) as connection:
        sender = green.spawn(drip, connection, *SLOW[kind])
        seen = everything_from(connection)
        sender.kill()
    assert seen == b"" or seen.startswith(b"HTTP/1.1 408 ")
    assert seen.count(b"HTTP/1.1 ") <= 1
    assert hasty.app.completed == []


def test_a_kept_connection_that_stays_silent_is_closed(hasty: Hosted) -> None:
    with connected(hasty.address) as connection:
        connection.sendall(PING)
        assert everything_from(connection).startswith(b"HTTP/1.1 200 ")


def test_an_answer_that_nobody_reads_is_dropped_and_its_iterable_closed(hasty: Hosted) -> None:
    hasty.app.forget()
    with connected(hasty.address) as connection:
        connection.sendall(b"GET /big?n=200000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert until(lambda: hasty.app.closed == 1, LIMIT_SECONDS + GRACE_SECONDS)
    assert hasty.app.opened == 1


def test_the_iterable_is_closed_within_a_second_of_the_reset_of_its_client(hasty: Hosted) -> None:
    hasty.app.forget()
    connection = connected(hasty.address)
    connection.sendall(b"GET /stream?n=100000&size=10000 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.recv(1000)
    reset(connection)
    assert until(lambda: hasty.app.closed == 1, 1.0)


def test_four_hundred_unfinished_heads_do_not_delay_others(echo: Hosted) -> None:
    crowd = [connected(echo.address) for _ in range(400)]
    try:
        for connection in crowd:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a")
        times = []
        with connected(echo.address) as friend:
            for _ in range(200):
                began = time.monotonic()
                friend.sendall(PING)
                assert friend.recv(65_536).startswith(b"HTTP/1.1 200 ")
                times.append(time.monotonic() - began)
        assert sorted(times)[197] < 0.1
    finally:
        for connection in crowd:
            connection.close()


REQUEST = b"POST /t HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"b" * 1000
STREAM = b"GET /stream?n=50&size=100000 HTTP/1.1\r\nHost: x\r\n\r\n"


def test_three_hundred_resets_at_five_points_leave_nothing_open(echo: Hosted) -> None:
    echo.app.forget()
    points = [b"", REQUEST[:10], REQUEST[:60], REQUEST, STREAM]
    for number in range(300):
        connection = connected(echo.address)
        connection.sendall(points[number % 5])
        if number % 2:
            green.sleep(0)
        reset(connection)
    began = time.monotonic()
    seen = exchange(echo.address, [PING], "1 x 200", finish=False, head=False)
    assert [answer.status for answer in seen.answers] == [200]
    assert time.monotonic() - began < 1.0
    assert until(lambda: echo.app.opened == echo.app.closed, 2.0)
