"""A response body that leaves piece by piece."""

from nucleon.http import CHUNKED
from nucleon.http.reply import Reply
from nucleon.server.connection import Connection


class Stream:
    """A body framed as its head says; the head travels with the first piece.

    left: bytes that Content-Length still allows, -1 for as many as come. keep_alive: the connection may carry another request.
    """

    __slots__ = ("_connection", "_held", "_is_chunked", "_size", "keep_alive", "left")

    def __init__(self, connection: Connection, reply: Reply) -> None:
        self._connection = connection
        self._held = b"".join(reply.parts)
        self._size = len(self._held)
        self._is_chunked = reply.framing == CHUNKED
        self.left = reply.framing
        self.keep_alive = reply.keep_alive

    def send(self, piece: object) -> None:
        """Send a piece of the body, cut where Content-Length ends; an empty one sends what is held. Raises `TypeError`, `Gone`."""
        data = _bytes(piece)
        if self._is_chunked:
            framed = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        else:
            if 0 <= self.left < len(data):
                data = data[: self.left]
            if self.left >= 0:
                self.left -= len(data)
            framed = data
        if self._held or framed:
            held, self._held = self._held, b""
            self._connection.send(held + framed)

    def begin(self) -> None:
        """Send the head when nothing has been sent yet, as far as there is room for it. Runs in the hub, and never waits."""
        self._held = self._connection.send_ahead(self._held)

    @property
    def has_begun(self) -> bool:
        """Tell whether the client has had the head, or some of it: no other answer can be given then."""
        return self._size != len(self._held)

    def end(self) -> bool:
        """Send the end of the body. True: the client knows where it ends, and the connection may stay. Raises `Gone`."""
        if self._is_chunked:
            held, self._held = self._held, b""
            self._connection.send(held + b"0\r\n\r\n")
            return self.keep_alive
        self.send(b"")
        return self.keep_alive and self.left == 0


def _bytes(piece: object) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, (bytearray, memoryview)):
        return bytes(piece)
    raise TypeError(f"a body consists of bytes, not {type(piece).__name__}")
