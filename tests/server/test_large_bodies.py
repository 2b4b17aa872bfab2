"""Request bodies of many pieces, received where the application will have them."""

import json
import random
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest
import trustme
from hosting import Hosted, hosted

from nucleon import App, Limits, green
from nucleon.errors import DeadlineExceeded
from nucleon.testing import eventually

MEGABYTE = 1_048_576


class Reader:
    """Reads a body as its path says, and keeps what it got, or how reading failed."""

    def __init__(self) -> None:
        self.began = 0
        self.has_begun = gevent.event.Event()
        self.bodies: list[bytes] = []
        self.failed: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.began += 1
        self.has_begun.set()
        source, size = environ["wsgi.input"], int(environ["PATH_INFO"][1:])
        try:
            pieces = [source.read()] if size < 0 else list(iter(lambda: source.read(size), b""))
        except BaseException as error:
            self.failed.append(type(error).__name__)
            if not isinstance(error, DeadlineExceeded):
                raise
            with pytest.raises(Exception, match="interrupted"):
                source.read()
            pieces = []
        self.bodies.append(b"".join(pieces))
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
        return [b"done"]


class Slow:
    """A body whose reader does something else before each read: what comes meanwhile is held by the connection."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def read(self, size: int) -> bytes:
        green.sleep(0.001)
        data: bytes = self.source.read(size)
        return data


@dataclass
class Way:
    """How a body travels: framed by its length or by chunks of odd sizes, plain or over TLS."""

    is_chunked: bool
    authority: trustme.CA | None
    settings: dict[str, str]

    def request(self, path: str, body: bytes, *, cut_at: int | None = None) -> bytes:
        """Return a request; with cut_at only the first bytes of its body, as they are framed."""
        sent = body if cut_at is None else body[:cut_at]
        if not self.is_chunked:
            return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + sent
        chance = random.Random(len(body))
        framed = bytearray(f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        at = 0
        while at < len(sent):
            piece = sent[at : at + chance.choice([1, 7, 300, 4096, 65_536, 300_000])]
            framed += b"%x\r\n%b\r\n" % (len(piece), piece)
            at += len(piece)
        return bytes(framed) if cut_at is not None else bytes(framed) + b"0\r\nX-Trailer: dropped\r\n\r\n"

    def connect(self, served: Hosted) -> socket.socket:
        connection = socket.create_connection(served.address, timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.authority is None:
            return connection
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context.wrap_socket(connection, server_hostname="localhost")


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, dict[str, str]]:
    authority, file = trustme.CA(), tmp_path_factory.mktemp("tls") / "chain.pem"
    Path(file).write_bytes(authority.issue_cert("localhost").private_key_and_cert_chain_pem.bytes())
    return authority, {"tls_certificate": str(file)}


@pytest.fixture(params=["length", "chunks", "length over TLS", "chunks over TLS"])
def way(request: pytest.FixtureRequest, certified: tuple[trustme.CA, dict[str, str]]) -> Way:
    is_secret = request.param.endswith("TLS")
    return Way(request.param.startswith("chunks"), certified[0] if is_secret else None, certified[1] if is_secret else {})


@pytest.fixture
def reader(way: Way) -> Iterator[Hosted]:
    with hosted(Reader(), body_bytes=8 * MEGABYTE, **way.settings) as served:
        yield served


def answers(connection: socket.socket, count: int) -> bytes:
    seen = b""
    while seen.count(b"done") < count:
        data = connection.recv(65_536)
        assert data, seen
        seen += data
    return seen


@pytest.mark.parametrize("size", [-1, 1, 1_000, 65_536, 300_000, 2_000_000])
def test_a_body_of_megabytes_is_read_whole_and_the_request_behind_it_is_answered(reader: Hosted, way: Way, size: int) -> None:
    body = random.Random(size).randbytes(3 * MEGABYTE + 17 if size != 1 else 100_000)
    with way.connect(reader) as connection:
        connection.sendall(way.request(f"/{size}", body) + way.request("/-1", b"after"))
        answers(connection, 2)
    assert reader.app.bodies == [body, b"after"]


@pytest.mark.parametrize("size", [-1, 5_000, 65_536])
def test_requests_that_share_a_packet_with_the_end_of_a_body_are_answered(reader: Hosted, way: Way, size: int) -> None:
    bodies = [random.Random(at).randbytes(at) for at in (65_536, 5_000, 131_072, 1, 70_000)]
    with way.connect(reader) as connection:
        connection.sendall(b"".join(way.request(f"/{size}", body) for body in bodies))
        answers(connection, len(bodies))
    assert reader.app.bodies == bodies


def test_a_body_that_comes_in_odd_pieces_is_the_same(reader: Hosted, way: Way) -> None:
    body = random.Random(1).randbytes(900_000)
    sent = way.request("/-1", body)
    chance = random.Random(2)
    with way.connect(reader) as connection:
        at = 0
        while at < len(sent):
            size = chance.choice([1, 5, 100, 9_000, 70_001])
            connection.sendall(sent[at : at + size])
            at += size
            green.sleep(0)
        answers(connection, 1)
    assert reader.app.bodies == [body]


def test_an_application_that_waits_between_its_reads_gets_every_byte_in_order(way: Way) -> None:
    class Waits(Reader):
        def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
            return super().__call__({**environ, "wsgi.input": Slow(environ["wsgi.input"])}, start_response)

    body = random.Random(2).randbytes(2 * MEGABYTE)
    with hosted(Waits(), body_bytes=8 * MEGABYTE, **way.settings) as served, way.connect(served) as connection:
        connection.sendall(way.request("/50000", body))
        answers(connection, 1)
    assert served.app.bodies == [body]


def test_a_body_that_comes_faster_than_it_is_read_leaves_the_others_their_turn(reader: Hosted, way: Way) -> None:
    with way.connect(reader) as large, way.connect(reader) as small:
        pusher = gevent.spawn(large.sendall, way.request("/100", bytes(8 * MEGABYTE)))
        assert reader.app.has_begun.wait(10)  # within the same turn of the loop: eight megabytes take less time than a poll
        small.sendall(way.request("/-1", b"x"))
        answers(small, 1)
        assert reader.app.bodies == [b"x"]
        pusher.join()
        answers(large, 1)


def test_reading_that_a_deadline_ended_does_not_go_on_in_the_middle_of_the_body(way: Way) -> None:
    with hosted(Reader(), deadline_seconds=0.05, body_bytes=8 * MEGABYTE, **way.settings) as served:
        served.server.grace_seconds = 0.05
        with way.connect(served) as connection:
            connection.sendall(way.request("/-1", bytes(MEGABYTE), cut_at=300_000))
            assert b"Connection: close" in answers(connection, 1)
    assert (served.app.failed, served.app.bodies) == (["DeadlineExceeded"], [b""])


@pytest.mark.parametrize("sent", [0, 100, 300_000])
def test_a_client_that_ends_within_a_large_body_is_told_so(reader: Hosted, way: Way, sent: int) -> None:
    with way.connect(reader) as connection:
        connection.sendall(way.request("/-1", bytes(MEGABYTE), cut_at=sent))
        eventually(lambda: reader.app.began)
        connection.shutdown(socket.SHUT_WR)
        if way.authority is None:  # the client's TLS is over with its half
            assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
        eventually(lambda: reader.app.failed == ["BadRequest"])


def test_a_body_that_stands_still_is_given_up(way: Way) -> None:
    settings = {"body_bytes": 8 * MEGABYTE, "body_seconds": 0.2, "body_bytes_per_second": 10 * MEGABYTE}
    with hosted(Reader(), **settings, **way.settings) as served, way.connect(served) as connection:
        connection.sendall(way.request("/-1", bytes(MEGABYTE), cut_at=300_000))
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert served.app.failed == ["RequestTimeout"]


def test_a_request_killed_within_its_body_gives_its_connection_back(reader: Hosted, way: Way) -> None:
    with way.connect(reader) as connection:
        connection.sendall(way.request("/-1", bytes(MEGABYTE), cut_at=300_000))
        eventually(lambda: reader.app.began)
        reader.server.stop_accepting()
        assert reader.server.drain(0.0) == 1
        eventually(lambda: not reader.server.connections)
    assert reader.app.failed == ["GreenletExit"]


def test_a_json_body_of_megabytes_reaches_a_handler_whole(way: Way) -> None:
    app, seen = App("counting"), []

    @app.post("/numbers", status=200, limits=Limits(body_bytes=8 * MEGABYTE))
    def count(body: dict[str, list[int]]) -> str:
        seen.append(body)
        return "done"

    app.configure({})
    numbers = {"numbers": list(range(300_000))}
    with hosted(app, body_bytes=8 * MEGABYTE, **way.settings) as served, way.connect(served) as connection:
        body = json.dumps(numbers).encode()
        asked = way.request("/numbers", body).replace(b"Host: x\r\n", b"Host: x\r\nContent-Type: application/json\r\n", 1)
        connection.sendall(asked + asked)
        answers(connection, 2)
    assert seen == [numbers, numbers]


@pytest.mark.parametrize(
    ("wrong", "status"), [(b"zz\r\n", b"400"), (b"5\r\nhelloX", b"400"), (b"800001\r\n", b"413"), (b"0\r\nX Y: 1\r\n\r\n", b"400")]
)
@pytest.mark.parametrize("way", ["chunks", "chunks over TLS"], indirect=True)
@pytest.mark.parametrize("size", [-1, 65_536])
def test_a_fault_behind_megabytes_of_chunks_is_told_and_nothing_behind_it_runs(
    reader: Hosted, way: Way, size: int, wrong: bytes, status: bytes
) -> None:
    begun = way.request(f"/{size}", random.Random(3).randbytes(2 * MEGABYTE), cut_at=2 * MEGABYTE)
    with way.connect(reader) as connection:
        connection.sendall(begun + wrong + way.request("/-1", b"after"))
        seen = connection.recv(1000)
        assert seen.startswith(b"HTTP/1.1 %b " % status), seen
        assert b"Connection: close" in seen
    assert reader.app.bodies == []
    assert reader.app.began == 1
