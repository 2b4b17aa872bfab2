"""TLS: certificates that change while the server runs, handshakes that never end, clients of every kind."""

import json
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from echo_app import EchoApp
from hosting import Hosted, hosted

from nucleon import green
from nucleon.errors import SetupError
from nucleon.server.tls import Certificate


def written(folder: Path, authority: trustme.CA, name: str = "localhost") -> tuple[str, str]:
    """Write a chain and a key for this name, as a renewal would: new files moved over the old ones."""
    leaf = authority.issue_cert(name)
    chain, key = folder / "chain.pem", folder / "key.pem"
    new_chain, new_key = folder / "chain.new", folder / "key.new"
    new_key.write_bytes(leaf.private_key_pem.bytes())
    new_chain.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    new_key.replace(key)
    new_chain.replace(chain)
    return str(chain), str(key)


def test_files_that_are_no_certificate_are_a_setup_error_that_names_them(tmp_path: Path) -> None:
    chain, key = written(tmp_path, trustme.CA())
    with pytest.raises(SetupError, match=r"nowhere\.pem.*no such file"):
        Certificate(str(tmp_path / "nowhere.pem"), key)
    Path(key).write_text("no key\n")
    with pytest.raises(SetupError, match=r"key\.pem"):
        Certificate(chain, key)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = trustme.CA()
    (tmp_path / "other").mkdir()
    chain, _ = written(tmp_path, authority)
    _, key = written(tmp_path / "other", authority)
    with pytest.raises(SetupError, match="key values mismatch"):
        Certificate(chain, key)


def test_new_files_are_used_and_broken_ones_are_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = trustme.CA()
    certificate = Certificate(*written(tmp_path, authority))
    first = certificate.context
    assert not certificate.renew()
    written(tmp_path, authority)
    with caplog.at_level(logging.INFO, "nucleon.server"):
        assert certificate.renew()
        second = certificate.context
        assert second is not first
        (tmp_path / "chain.pem").write_text("half a file")
        assert not certificate.renew()
        assert not certificate.renew()
    assert certificate.context is second
    assert caplog.text.count("the old one stays") == 1


def test_only_tls_1_2_and_later_is_spoken(tmp_path: Path) -> None:
    certificate = Certificate(*written(tmp_path, trustme.CA()))
    assert certificate.context.minimum_version == ssl.TLSVersion.TLSv1_2


REQUEST = b"GET /t HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certified(tmp_path: Path, authority: trustme.CA) -> Iterator[Hosted]:
    chain, key = written(tmp_path, authority)
    with hosted(EchoApp(), tls_certificate=chain, tls_key=key, head_seconds=0.5, linger_seconds=0.3) as served:
        yield served


def client_of(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@contextmanager
def secured(served: Hosted, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with socket.create_connection(served.address, timeout=10) as plain, context.wrap_socket(plain, server_hostname="localhost") as safe:
        yield safe


def everything(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_a_request_over_tls_is_answered_and_its_scheme_is_https(certified: Hosted, authority: trustme.CA) -> None:
    with secured(certified, client_of(authority)) as connection:
        connection.sendall(REQUEST)
        answer = everything(connection)
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["scheme"] == "https"


def test_an_https_target_is_served_over_tls_and_from_a_trusted_proxy_alone(certified: Hosted, authority: trustme.CA) -> None:
    request = REQUEST.replace(b"GET /t", b"GET https://localhost/t")
    with secured(certified, client_of(authority)) as connection:
        connection.sendall(request)
        assert everything(connection).startswith(b"HTTP/1.1 200 ")
    for trusted, status in ((("127.0.0.1",), b"200"), ((), b"421")):
        with hosted(EchoApp(), trusted_proxies=trusted) as served, socket.create_connection(served.address, timeout=10) as plain:
            plain.sendall(request)
            assert everything(plain).startswith(b"HTTP/1.1 %b " % status)


def test_many_requests_and_large_bodies_travel_on_one_connection(certified: Hosted, authority: trustme.CA) -> None:
    body = b"b" * 700_000
    with secured(certified, client_of(authority)) as connection, connection.makefile("rb") as answers:
        for _ in range(3):
            connection.sendall(b"POST /readall HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert answers.readline().startswith(b"HTTP/1.1 200 ")
            headers = dict(line.decode().rstrip().split(": ") for line in iter(answers.readline, b"\r\n"))
            assert json.loads(answers.read(int(headers["Content-Length"]))) == {"a": len(body), "b": 0}
        connection.sendall(b"GET /big?n=5000000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert len(answers.read().partition(b"\r\n\r\n")[2]) == 5_000_000


def test_a_handshake_that_does_not_go_on_is_cut_off(certified: Hosted) -> None:
    with socket.create_connection(certified.address, timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00")  # the head of a ClientHello that never comes
        assert connection.recv(100) == b""


def test_a_client_that_ends_within_its_handshake_is_let_go(tmp_path: Path, authority: trustme.CA) -> None:
    chain, key = written(tmp_path, authority)
    hello = ssl.MemoryBIO()
    client = client_of(authority).wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with hosted(EchoApp(), tls_certificate=chain, tls_key=key, head_seconds=600) as served:
        with socket.create_connection(served.address, timeout=10) as connection:
            connection.sendall(hello.read()[:100])
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""


def test_plain_http_on_a_tls_port_is_told_so(certified: Hosted) -> None:
    with socket.create_connection(certified.address, timeout=10) as connection:
        connection.sendall(REQUEST)
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"https://" in answer


def test_other_bytes_on_a_tls_port_end_the_connection(certified: Hosted) -> None:
    with socket.create_connection(certified.address, timeout=10) as connection:
        connection.sendall(b"\x00" * 64)
        assert not everything(connection).startswith(b"HTTP")


def test_an_answer_that_is_read_slowly_is_complete(certified: Hosted, authority: trustme.CA) -> None:
    with secured(certified, client_of(authority)) as connection:
        connection.sendall(b"GET /stream?n=300&size=20000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := connection.recv(30_000):
            answer += piece
            green.sleep(0)
    assert answer.count(b"s") >= 300 * 20_000
    assert answer.endswith(b"0\r\n\r\n")


def test_a_new_certificate_is_shown_to_new_connections_only(tmp_path: Path, authority: trustme.CA) -> None:
    chain, key = written(tmp_path, authority)
    other = trustme.CA()
    with hosted(EchoApp(), tls_certificate=chain, tls_key=key) as served, secured(served, client_of(authority)) as old:
        written(tmp_path, other)
        served.server._renew_at = 0.0
        served.server._sweep()
        with secured(served, client_of(other)) as new:
            new.sendall(REQUEST)
            assert everything(new).startswith(b"HTTP/1.1 200 ")
        old.sendall(REQUEST)
        assert everything(old).startswith(b"HTTP/1.1 200 ")


def test_clients_without_a_certificate_are_refused_where_one_is_demanded(tmp_path: Path, authority: trustme.CA) -> None:
    chain, key = written(tmp_path, authority)
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with hosted(EchoApp(), tls_certificate=chain, tls_key=key, tls_client_authority=str(trusted)) as served:
        stranger, known = client_of(authority), client_of(authority)
        authority.issue_cert("client.example").configure_cert(known)
        with pytest.raises((ssl.SSLError, ConnectionError)), secured(served, stranger) as connection:
            connection.sendall(REQUEST)
            assert connection.recv(100)
        with secured(served, known) as connection:
            connection.sendall(REQUEST)
            assert everything(connection).startswith(b"HTTP/1.1 200 ")


def test_a_file_is_sent_encrypted(tmp_path: Path, authority: trustme.CA) -> None:
    chain, key = written(tmp_path, authority)
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 2000)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return environ["wsgi.file_wrapper"](file.open("rb"))

    with hosted(app, tls_certificate=chain, tls_key=key) as served, secured(served, client_of(authority)) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert everything(connection).partition(b"\r\n\r\n")[2] == file.read_bytes()
