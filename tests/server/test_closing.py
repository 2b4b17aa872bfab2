"""How a connection ends after its last answer: at once when the client sends no more, else in two steps (RFC 9112 9.6)."""

import socket
from typing import Any

import pytest
from hosting import hosted

from nucleon import green
from nucleon.testing import eventually

CLOSING = b"Host: x\r\nConnection: close\r\n"


def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    green.sleep(float(environ["QUERY_STRING"] or 0))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


def everything(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize("query", ["", "?0.01"])
@pytest.mark.parametrize("request_", [b"GET /%b HTTP/1.1\r\n" + CLOSING + b"\r\n", b"GET /%b HTTP/1.0\r\n\r\n"], ids=["1.1", "1.0"])
def test_the_only_request_of_a_client_closes_the_connection_without_waiting_for_it(request_: bytes, query: str) -> None:
    with hosted(answer, linger_seconds=60) as served, socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(request_ % query.encode())
        assert everything(connection).endswith(b"\r\n\r\nok")
        eventually(lambda: not served.server.connections)


@pytest.mark.parametrize("query", ["", "?0.05"])
def test_what_a_client_sends_behind_its_last_request_does_not_destroy_the_answer(query: str) -> None:
    with hosted(answer, linger_seconds=60) as served, socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(b"GET /%b HTTP/1.1\r\n" % query.encode() + CLOSING + b"\r\n" + b"x" * 1_000_000)
        assert everything(connection).endswith(b"\r\n\r\nok")
        assert served.server.connections, "it still reads what the client sends"
        connection.shutdown(socket.SHUT_WR)
        eventually(lambda: not served.server.connections)


def test_a_request_with_a_body_is_closed_in_two_steps() -> None:
    with hosted(answer, linger_seconds=60) as served, socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\n" + CLOSING + b"Content-Length: 3\r\n\r\nabc")
        assert everything(connection).endswith(b"\r\n\r\nok")
        connection.sendall(b"\r\n")  # some clients end a body so, against RFC 9112 2.2
        assert served.server.connections
