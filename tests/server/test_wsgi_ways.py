"""The less common ways of a WSGI application to answer: write(), files, fresh greenlets (PEP 3333)."""

import io
import socket
import threading
from pathlib import Path
from typing import Any

import gevent.event
import pytest
from hosting import Hosted, hosted

from nucleon.testing import eventually


def answer_of(served: Hosted, request: bytes) -> bytes:
    with socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Writer:
    """Writes, waits, and writes on; what happens then is told by `after`."""

    def __init__(self, *headers: tuple[str, str], after: Any = lambda: [b"returned"]) -> None:
        self.go = gevent.event.Event()
        self.headers = list(headers)
        self.after = after

    def __call__(self, _environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", [("Content-Type", "text/plain"), *self.headers])
        write(b"first")
        self.go.wait()
        write(b"second")
        return self.after()


def test_what_is_written_leaves_before_the_application_returns() -> None:
    with hosted(Writer()) as served, socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(GET)
        assert connection.recv(1000).endswith(b"\r\n\r\n5\r\nfirst\r\n")
        served.app.go.set()
        assert b"".join(iter(lambda: connection.recv(1000), b"")) == b"6\r\nsecond\r\n8\r\nreturned\r\n0\r\n\r\n"


def test_a_written_answer_with_a_length_keeps_the_connection() -> None:
    with hosted(Writer(("Content-Length", "19"))) as served, socket.create_connection(served.address, timeout=10) as connection:
        served.app.go.set()
        for _ in range(2):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            seen = b""
            while not seen.endswith(b"firstsecondreturned"):
                piece = connection.recv(1000)
                assert piece, seen
                seen += piece


def test_an_application_that_fails_after_writing_cuts_the_answer_off() -> None:
    def fail() -> list[bytes]:
        raise RuntimeError("too late for a 500")

    with hosted(Writer(after=fail)) as served:
        served.app.go.set()
        seen = answer_of(served, GET)
    assert seen.startswith(b"HTTP/1.1 200 ")
    assert not seen.endswith(b"0\r\n\r\n")
    assert b"500" not in seen


def test_a_client_that_leaves_while_the_application_writes_ends_it() -> None:
    ended: list[str] = []

    def endless(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            while True:
                write(b"x" * 100_000)
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    with hosted(endless) as served:
        with socket.create_connection(served.address, timeout=10) as connection:
            connection.sendall(GET)
            assert connection.recv(1000)
        eventually(lambda: ended)
        eventually(lambda: not served.server.connections)
    assert ended[0] in ("Gone", "GreenletExit")


def test_a_status_that_is_not_one_line_is_refused_at_once() -> None:
    seen: list[str] = []

    def splitting(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            start_response("200 OK\r\nX-Injected: 1", [])
        except ValueError as error:
            seen.append(str(error))
        start_response("200 OK", [])
        return [b""]

    with hosted(splitting) as served:
        assert b"Injected" not in answer_of(served, GET)
    assert "three digits" in seen[0]


class Files:
    """Answers with a file; `file` makes it."""

    def __init__(self, file: Any, *headers: tuple[str, str]) -> None:
        self.file, self.headers, self.given = file, list(headers), []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "application/octet-stream"), *self.headers])
        self.given.append(self.file())
        return environ["wsgi.file_wrapper"](self.given[-1])


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 20_000)
    return path


def test_a_file_is_sent_whole_with_its_length_and_closed(large: Path) -> None:
    with hosted(Files(lambda: large.open("rb"))) as served:
        head, _, body = answer_of(served, GET).partition(b"\r\n\r\n")
        assert b"Content-Length: 5120000" in head
        assert body == large.read_bytes()
        assert all(file.closed for file in served.app.given)


def test_a_file_is_sent_from_where_the_application_has_read_to(large: Path) -> None:
    def opened() -> Any:
        file = large.open("rb")
        file.read(5_119_990)
        return file

    with hosted(Files(opened)) as served:
        assert answer_of(served, GET).endswith(large.read_bytes()[-10:])


def test_a_part_of_a_file_is_sent_when_content_length_says_so(large: Path) -> None:
    with hosted(Files(lambda: large.open("rb"), ("Content-Length", "1000"))) as served:
        with socket.create_connection(served.address, timeout=10) as connection:
            for _ in range(2):  # and the connection stays
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                seen = b""
                while len(seen.partition(b"\r\n\r\n")[2]) < 1000:
                    seen += connection.recv(65_536)
                assert seen.partition(b"\r\n\r\n")[2] == large.read_bytes()[:1000]


def test_a_head_request_gets_the_length_and_no_file(large: Path) -> None:
    with hosted(Files(lambda: large.open("rb"))) as served:
        answer = answer_of(served, b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"Content-Length: 5120000" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_a_file_in_memory_is_streamed(large: Path) -> None:
    with hosted(Files(lambda: io.BytesIO(large.read_bytes()))) as served:
        answer = answer_of(served, b"GET / HTTP/1.0\r\n\r\n")
    assert answer.partition(b"\r\n\r\n")[2] == large.read_bytes()


def test_a_client_that_leaves_in_the_middle_of_a_file_closes_it(large: Path) -> None:
    large.write_bytes(b"x" * 50_000_000)
    with hosted(Files(lambda: large.open("rb"))) as served:
        with socket.create_connection(served.address, timeout=10) as connection:
            connection.sendall(GET)
            assert connection.recv(1000)
        eventually(lambda: served.app.given and served.app.given[0].closed)


def test_fresh_greenlets_share_nothing_and_serve_pipelined_requests() -> None:
    local = threading.local()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen = getattr(local, "path", "nothing")
        local.path = environ["PATH_INFO"]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"[{environ['PATH_INFO']} after {seen}]".encode()]

    first, last = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    requests = first % 1 + first % 2 + last
    with hosted(app, fresh_greenlets=True) as served:
        for _ in range(2):
            answers = answer_of(served, requests)
            assert [number for number in (1, 2, 3) if f"[/{number} after nothing]".encode() in answers] == [1, 2, 3]
        assert served.server.running == 0
    with hosted(app) as served:
        answer_of(served, requests)
        assert b"after nothing" not in answer_of(served, requests)
