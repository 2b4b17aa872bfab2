import socket
import tempfile
from pathlib import Path

import pytest

from nucleon import green
from nucleon.errors import DeadlineExceeded, SetupError


def test_connect_reaches_a_listener_over_tcp_and_over_a_unix_socket() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for address in (("127.0.0.1", 0), str(Path(folder) / "socket")):
            with green.listen(address) as listener:
                with green.connect(listener.getsockname()) as client:
                    server, _ = listener.accept()
                    with server:
                        client.sendall(b"ping")
                        assert server.recv(4) == b"ping"


def test_a_dead_socket_file_is_replaced() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "socket")
        green.listen(path).close()
        with green.listen(path) as listener, green.connect(path):
            assert listener.getsockname() == path


def test_a_taken_address_is_a_setup_error_that_names_it() -> None:
    with green.listen(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SetupError, match=str(port)):
            green.listen(("127.0.0.1", port))


def test_connect_to_a_listener_that_never_accepts_ends_in_time() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = []
        for _ in range(4):  # fill the accept queue: the kernel then drops what comes
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        with pytest.raises(TimeoutError):
            green.connect(address, timeout_seconds=0.1)
        with green.deadline(0.1), pytest.raises(DeadlineExceeded):
            green.connect(address)
        for filler in fillers:
            filler.close()


def test_resolve_gives_addresses_and_says_when_a_name_is_unknown() -> None:
    assert any(entry[4][0] in ("127.0.0.1", "::1") for entry in green.resolve("localhost", 80))
    with pytest.raises(OSError, match=r"."):
        green.resolve("no-such-host.invalid", 80)
