"""Connections from TCP proxies that say who the client is (PROXY protocol)."""

import json
import socket
from collections.abc import Iterator

import pytest
from echo_app import EchoApp
from hosting import Hosted, hosted

from nucleon.errors import SetupError
from nucleon.http.proxy_protocol import SIGNATURE
from nucleon.server import Server, Settings

REQUEST = b"GET /t HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n"
BINARY = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7]) + bytes([192, 0, 2, 1]) + b"\xdc\x04\x01\xbb"


@pytest.fixture(scope="module")
def announced() -> Iterator[Hosted]:
    with hosted(EchoApp(), proxy_protocol=("127.0.0.0/8",), head_seconds=0.5) as served:
        yield served


def conversation(served: Hosted, *parts: bytes) -> bytes:
    with socket.create_connection(served.address, timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
        try:
            return b"".join(iter(lambda: connection.recv(65_536), b""))
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("header", [HEADER, BINARY], ids=["version 1", "version 2"])
def test_the_client_is_the_one_that_the_header_names(announced: Hosted, header: bytes) -> None:
    answer = conversation(announced, header + REQUEST)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["remote"] == "192.0.2.7"


@pytest.mark.parametrize("cut", [1, 7, 20, len(HEADER) - 1])
def test_a_header_in_two_pieces_is_waited_for(announced: Hosted, cut: int) -> None:
    answer = conversation(announced, HEADER[:cut], HEADER[cut:] + REQUEST)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["remote"] == "192.0.2.7"


def test_a_health_check_of_the_proxy_itself_is_answered(announced: Hosted) -> None:
    answer = conversation(announced, SIGNATURE + b"\x20\x00\x00\x00" + REQUEST)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["remote"] == "127.0.0.1"


@pytest.mark.parametrize("data", [REQUEST, b"PROXY nonsense\r\n" + REQUEST, SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12) + REQUEST])
def test_a_connection_without_a_good_header_is_closed_and_runs_nothing(announced: Hosted, data: bytes) -> None:
    announced.app.forget()
    assert conversation(announced, data) == b""
    assert announced.app.calls == []


def test_a_header_that_never_ends_is_cut_off(announced: Hosted) -> None:
    assert conversation(announced, HEADER[:10]) == b""
    assert not announced.server._arrivals


def test_others_are_served_without_a_header_and_cannot_claim_one() -> None:
    with hosted(EchoApp(), proxy_protocol=("10.0.0.0/8",)) as served:
        assert conversation(served, REQUEST).startswith(b"HTTP/1.1 200 ")
        assert conversation(served, HEADER + REQUEST).startswith(b"HTTP/1.1 400 ")


def test_a_network_that_is_none_names_its_setting() -> None:
    with pytest.raises(SetupError, match="proxy_protocol"):
        Server(EchoApp(), Settings(proxy_protocol=("10.0.0.1/8",)))
