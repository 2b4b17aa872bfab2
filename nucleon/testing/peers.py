"""A peer that follows a script: what a driver meets when the server says exactly this."""

from collections.abc import Callable
from types import TracebackType

import gevent
import gevent.socket

from nucleon.green.sockets import listen


class Conversation:
    """One accepted connection, seen from the script."""

    def __init__(self, connection: gevent.socket.socket, timeout_seconds: float) -> None:
        self.connection = connection
        self.received = b""
        self._taken = 0
        connection.settimeout(timeout_seconds)

    def receive(self, size: int) -> bytes:
        """Take exactly `size` bytes. Raises `AssertionError` when the other side closes first, `TimeoutError` when it is silent."""
        while len(self.received) - self._taken < size:
            piece = self.connection.recv(65536)
            assert piece, f"the other side closed after {self.received!r}"
            self.received += piece
        self._taken += size
        return self.received[self._taken - size : self._taken]

    def receive_until(self, end: bytes) -> bytes:
        """Take bytes up to and with `end`."""
        while (at := self.received.find(end, self._taken)) < 0:
            piece = self.connection.recv(65536)
            assert piece, f"the other side closed after {self.received!r}"
            self.received += piece
        start, self._taken = self._taken, at + len(end)
        return self.received[start : self._taken]

    def expect(self, expected: bytes) -> None:
        """Take as many bytes as `expected` has and compare. Raises `AssertionError`."""
        got = self.receive(len(expected))
        assert got == expected, f"expected {expected!r}, got {got!r}"

    def expect_close(self) -> None:
        """Wait until the other side closes. Raises `AssertionError` when it sends instead."""
        piece = self.connection.recv(65536)
        assert not piece, f"expected the end, got {piece!r}"

    def send(self, content: bytes) -> None:
        """Send bytes as they are."""
        self.connection.sendall(content)


class ScriptedPeer:
    """Listen on 127.0.0.1 and play `script` for every connection; what a script raises is raised where the block ends.

    script: a function of a `Conversation`; the connection is closed when it returns.
    """

    def __init__(self, script: Callable[[Conversation], None], *, timeout_seconds: float = 10.0) -> None:
        self.script = script
        self.timeout_seconds = timeout_seconds
        self.accepted = 0
        self._faults: list[Exception] = []
        self._players: list[gevent.Greenlet[..., None]] = []
        self._connections: list[gevent.socket.socket] = []
        self._listener = listen(("127.0.0.1", 0))
        self.host, self.port = "127.0.0.1", int(self._listener.getsockname()[1])
        self._accepting = gevent.spawn(self._accept)

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        return (self.host, self.port)

    def close(self) -> None:
        """Stop listening and end every conversation."""
        self._accepting.kill()
        self._listener.close()
        gevent.killall(self._players)
        for connection in self._connections:
            connection.close()  # a player that was killed before it began has not

    def __enter__(self) -> "ScriptedPeer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            gevent.joinall(self._players, timeout=self.timeout_seconds)
        self.close()
        if error is None and self._faults:
            raise self._faults[0]

    def _accept(self) -> None:
        while True:
            connection, _address = self._listener.accept()
            self.accepted += 1
            self._connections.append(connection)
            self._players.append(gevent.spawn(self._play, connection))

    def _play(self, connection: gevent.socket.socket) -> None:
        with connection:
            try:
                self.script(Conversation(connection, self.timeout_seconds))
            except Exception as fault:  # noqa: BLE001  kept and raised in the test's own greenlet
                self._faults.append(fault)
