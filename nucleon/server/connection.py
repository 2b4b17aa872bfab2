"""One connection: a small object and one read watcher; a greenlet only while a request runs."""

import _socket
from typing import TYPE_CHECKING, Any

from gevent import get_hub, getcurrent

from nucleon.http import MalformedInput, RequestHead, head_end, parse_head, skip_empty_line
from nucleon.server.body import Body, RequestTimeout, problem_from

if TYPE_CHECKING:
    from nucleon.server.server import Server

READING, BUSY, LINGERING, CLOSED = range(4)
_RECEIVE_BYTES = 65_536
_LINGER_BYTES = 4_194_304  # what a lingering close reads and drops at most
_READ, _WRITE = 1, 2


class Gone(Exception):
    """The client has gone, or takes nothing any more."""


class Connection:
    """The socket of one client and what is known about it.

    pending: bytes received and not used yet. worker: the greenlet that runs the request. The callbacks run in the hub.
    """

    __slots__ = (
        "_dropped_bytes", "_head_seen", "_io", "_paused", "body", "eof", "head", "head_bytes", "late", "overdue_at", "peer",
        "pending", "server", "socket", "state", "waiting", "worker",
    )  # fmt: skip

    def __init__(self, server: "Server", socket: _socket.socket, peer: str) -> None:
        self.server = server
        self.socket = socket
        self.peer = peer
        self.pending = b""
        self.state = READING
        self.eof = False
        self.late = False
        self.head: RequestHead | None = None
        self.head_bytes = 0
        self.body: Body | None = None
        self.worker: Any = None
        self.waiting: Any = None
        self.overdue_at = 0.0
        self._head_seen = 0
        self._dropped_bytes = 0
        self._paused = False
        self._io: Any = server.loop.io(socket.fileno(), _READ)
        self._io.start(self.on_readable)

    def on_readable(self) -> None:
        """Take what has come. Runs in the hub."""
        try:
            data = self.socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if self.state == READING:
            if not data:
                self.close()
                return
            self.pending = self.pending + data if self.pending else data
            if self.next_head():
                self.server.dispatch(self)
        elif self.state == BUSY:
            self._keep(data)
        else:
            self._dropped_bytes += len(data)
            if not data or self._dropped_bytes > _LINGER_BYTES:
                self.close()

    def _keep(self, data: bytes) -> None:
        """Hold what comes while a request runs, up to a bound; the end of input is only noted (RFC 9112 9.6)."""
        if data:
            self.pending += data
            self._paused = len(self.pending) >= _RECEIVE_BYTES
        else:
            self.eof = True
        if self.eof or self._paused:
            self._io.stop()
        if self.waiting is not None and self.body is not None:
            self.waiting.switch()

    def next_head(self) -> bool:
        """Look for a complete head in what is pending; refuse a malformed one. True: `head` is set."""
        data = self.pending
        try:
            start = skip_empty_line(data, 0)
            if len(data) - start < 2:
                self.server.await_head(self)
                return False
            end = head_end(data, start, self._head_seen, self.server.limits)
            if end < 0:
                self._head_seen = len(data)
                self.server.await_head(self)
                return False
            self.head = parse_head(data, start, end, self.server.limits)
            if self.head.content_length > self.server.limits.body_bytes:
                raise MalformedInput(f"the body is longer than {self.server.limits.body_bytes} bytes", 413)
        except MalformedInput as wrong:
            self.server.refuse(self, problem_from(wrong))
            return False
        self._head_seen = 0
        self.head_bytes = end - start
        self.pending = data[end:]
        return True

    def wait_for_input(self, body: Body) -> str:
        """Wait until `pending` has something: "ready", "late" or "ended". Called by the worker greenlet."""
        if self._paused:
            self._paused = False
            self._io.start(self.on_readable)
        if self.eof:
            return "ended"
        self.body = body
        self.waiting = getcurrent()
        self.server.bodies[self] = self.server.now()
        try:
            get_hub().switch()
        finally:
            self.waiting = self.body = None
            body.waited_seconds += self.server.now() - self.server.bodies.pop(self)
        if self.late:
            return "late"
        return "ready" if self.pending else "ended"

    def send(self, data: bytes) -> None:
        """Send all of data, waiting for the client to take it. Raises `Gone`. Called by the worker greenlet."""
        view = memoryview(data)
        while True:
            try:
                sent = self.socket.send(view)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                raise Gone(str(error)) from None
            if sent == len(view):
                return
            view = view[sent:]
            self._wait_for_room()

    def _wait_for_room(self) -> None:
        watcher = self.server.loop.io(self.socket.fileno(), _WRITE)
        self.waiting = getcurrent()
        self.server.writes[self] = self.server.now()
        watcher.start(self.waiting.switch)
        try:
            get_hub().switch()
        finally:
            watcher.stop()
            watcher.close()
            self.waiting = None
            self.server.writes.pop(self, None)
        if self.late or self.state == CLOSED:
            raise Gone("the client takes nothing")

    def resume(self) -> None:
        """Go back to reading after a request."""
        self.state = READING
        self.head = None
        self.worker = None
        if self._paused:
            self._paused = False
            self._io.start(self.on_readable)

    def expire_head(self) -> None:
        """The head has not come in time."""
        if self.pending:
            self.server.refuse(self, RequestTimeout("the head came too slowly"))
        else:
            self.close()

    def linger(self) -> None:
        """Close in two steps: a reset must not destroy the answer that is on its way (RFC 9112 9.6)."""
        if self.state == CLOSED:
            return
        if self.eof:
            self.close()
            return
        self.state = LINGERING
        self.pending = b""
        self.server.await_end(self)
        try:
            self.socket.shutdown(_socket.SHUT_WR)
        except OSError:
            self.close()
            return
        if not self._io.active:
            self._io.start(self.on_readable)

    def close(self) -> None:
        """Close the socket and forget the connection; a second call does nothing."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        self._io.stop()
        self._io.close()
        self.socket.close()
        self.server.forget(self)

    def __repr__(self) -> str:
        return f"<Connection from {self.peer or 'a Unix socket'}, {('reading', 'busy', 'lingering', 'closed')[self.state]}>"
