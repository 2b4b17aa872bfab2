"""An application that forks: the child has the sockets too, and must leave them alone."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from nucleon import green

SERVICE = """
from nucleon import green
green.patch()
import os, socket, sys
import gevent
from nucleon.server import Server, Settings

def app(environ, start_response):
    if environ["PATH_INFO"] == "/fork" and os.fork() == 0:
        gevent.sleep(20)  # the child runs its loop
        os._exit(0)
    if environ["PATH_INFO"] == "/close":
        for one in list(server.connections):
            one.close()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

listener = socket.create_server(("127.0.0.1", 0))
server = Server(app, Settings(idle_seconds=600))
server.add_listener(listener)
print(listener.getsockname()[1], flush=True)
server.serve_forever()
"""


@pytest.fixture
def service() -> Iterator[tuple[bytes, tuple[str, int]]]:
    """A server in a process of its own: that process's name as it answers, and its address."""
    command = [sys.executable, "-c", SERVICE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        assert process.stdout is not None
        try:
            yield str(process.pid).encode(), ("127.0.0.1", int(process.stdout.readline()))
        finally:
            subprocess.run(["kill", "-KILL", "--", f"-{process.pid}"], check=True)


def answer(connection: socket.socket, path: str) -> bytes:
    connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection.recv(10_000).rpartition(b"\r\n")[2]


def test_the_parent_alone_answers_while_a_child_runs_its_loop(service: tuple[bytes, tuple[str, int]]) -> None:
    ours, address = service
    kept = [socket.create_connection(address, timeout=3) for _ in range(8)]
    try:
        assert [answer(one, "") for one in kept] == [ours] * 8
        assert answer(kept[0], "fork") == ours
        for _ in range(30):
            assert [answer(one, "") for one in kept] == [ours] * 8
            with socket.create_connection(address, timeout=3) as new:
                assert answer(new, "") == ours
            green.sleep(0.005)
    finally:
        for one in kept:
            one.close()


def test_a_connection_that_the_parent_closes_is_closed_although_a_child_runs(service: tuple[bytes, tuple[str, int]]) -> None:
    _, address = service
    with socket.create_connection(address, timeout=3) as connection, socket.create_connection(address, timeout=3) as other:
        answer(other, "")
        answer(connection, "fork")
        connection.sendall(b"GET /close HTTP/1.1\r\nHost: x\r\n\r\n")
        assert other.recv(10) == b""
