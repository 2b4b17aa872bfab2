"""The proxy makes the trouble it is asked for, and nothing else."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

import pytest

from nucleon import green
from nucleon.testing import ScriptedPeer, TcpProxy, eventually
from nucleon.testing.peers import Conversation


def echo(talk: Conversation) -> None:
    with suppress(ConnectionResetError):
        while piece := talk.connection.recv(65536):
            talk.send(piece)


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    with ScriptedPeer(echo) as peer, TcpProxy(peer.address) as between:
        yield between


@pytest.fixture
def client(proxy: TcpProxy) -> Iterator[socket.socket]:
    with socket.create_connection(proxy.address, timeout=5) as connection:
        yield connection


def test_bytes_pass_both_ways(client: socket.socket) -> None:
    client.sendall(b"hello")
    assert client.recv(100) == b"hello"


def test_an_end_is_passed_on_and_the_connection_forgotten(proxy: TcpProxy, client: socket.socket) -> None:
    client.sendall(b"last")
    client.shutdown(socket.SHUT_WR)
    assert client.recv(100) == b"last"
    assert client.recv(100) == b""
    eventually(lambda: proxy.open_connections == 0)


def test_a_black_hole_is_silent_and_gives_the_bytes_back_afterwards(proxy: TcpProxy, client: socket.socket) -> None:
    proxy.blackhole("to_client")
    client.sendall(b"hello")
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(100)
    proxy.pass_through()
    client.settimeout(5)
    assert client.recv(100) == b"hello"


def test_a_black_hole_accepts_new_connections_and_answers_nothing(proxy: TcpProxy) -> None:
    proxy.blackhole()
    with socket.create_connection(proxy.address, timeout=0.1) as connection:
        connection.sendall(b"anyone?")
        with pytest.raises(TimeoutError):
            connection.recv(100)


def test_a_delay_holds_every_piece_back(proxy: TcpProxy, client: socket.socket) -> None:
    proxy.delay(0.1, "to_server")
    began = monotonic()
    client.sendall(b"hello")
    assert client.recv(100) == b"hello"
    assert monotonic() - began >= 0.1


def test_a_cut_lets_so_many_bytes_through_and_closes(proxy: TcpProxy, client: socket.socket) -> None:
    client.sendall(b"before")
    assert client.recv(100) == b"before"
    proxy.cut(3, "to_client")
    client.sendall(b"hello")
    assert client.recv(100) == b"hel"
    assert client.recv(100) == b""


def test_a_reset_ends_open_and_new_connections_until_it_is_taken_back(proxy: TcpProxy, client: socket.socket) -> None:
    client.sendall(b"hello")
    assert client.recv(100) == b"hello"
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(100)
    with socket.create_connection(proxy.address, timeout=5) as connection, pytest.raises(ConnectionResetError):
        connection.recv(100)
    proxy.pass_through()
    with socket.create_connection(proxy.address, timeout=5) as connection:
        connection.sendall(b"again")
        assert connection.recv(100) == b"again"


def test_a_connection_is_reset_when_upstream_refuses() -> None:
    with ScriptedPeer(echo) as peer:
        address = peer.address
    with TcpProxy(address) as between, socket.create_connection(between.address, timeout=5) as connection:
        with pytest.raises(ConnectionResetError):
            connection.recv(100)


def test_many_connections_are_carried_at_once(proxy: TcpProxy) -> None:
    def talk(number: int) -> bytes:
        with socket.create_connection(proxy.address, timeout=5) as connection:
            connection.sendall(b"%d" % number)
            return connection.recv(100)

    talks = [green.spawn(talk, number) for number in range(50)]
    assert [one.get(timeout=5) for one in talks] == [b"%d" % number for number in range(50)]


def test_a_script_that_is_not_followed_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="PING"), ScriptedPeer(lambda talk: talk.expect(b"PING")) as peer:
        with socket.create_connection(peer.address, timeout=5) as connection:
            connection.sendall(b"PONG")
            assert connection.recv(100) == b""


def test_a_script_reads_and_answers() -> None:
    def script(talk: Conversation) -> None:
        assert talk.receive_until(b"\r\n") == b"HELLO\r\n"
        talk.expect(b"x")
        talk.send(b"bye")
        talk.expect_close()

    with ScriptedPeer(script) as peer, socket.create_connection(peer.address, timeout=5) as connection:
        connection.sendall(b"HELLO\r\nx")
        assert connection.recv(100) == b"bye"
