"""Which connections have input: one epoll instance for all of them, and one watcher of the loop for it."""

from typing import Any

from greenlet import greenlet

from nucleon.green.threads import NOBODY, Thread, Turn, here
from nucleon.server.connection import Connection
from nucleon.server.core import Core
from nucleon.server.states import READING
from nucleon.server.wire import Edges

_to: Any = greenlet.switch


class Poller(Turn):
    """Calls `on_readable` once for each edge: when input, or the end of it, has come since the last time.

    A connection that has not taken all of it asks to be called `again`. Everything here runs in the hub, or never waits.
    """

    __slots__ = ("_at", "_connections", "_core", "_count", "_edges", "_io", "_thread")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._thread: Thread = here.thread
        self._edges = Edges()
        self._connections: list[Connection | None] = []
        self._at = 0
        self._count = 0
        self._io: Any = core.loop.io(self._edges.fd, 1)
        self._io.start(self.on_edges)

    def add(self, fd: int, connection: Connection) -> None:
        """Call the connection from now on; also for what is here already. Raises `OSError`."""
        while len(self._connections) <= fd:
            self._connections.append(None)
        self._connections[fd] = connection
        self._edges.add(fd)

    def again(self, fd: int) -> None:
        """Call the connection of a descriptor when there is input, even when it has come before. Raises `OSError`."""
        self._edges.again(fd)

    def forget(self, fd: int) -> None:
        """Call its connection no more; the kernel forgets a descriptor that is closed."""
        if fd < len(self._connections):
            self._connections[fd] = None

    def on_edges(self) -> None:
        """Call all whose edges are here. What an exception cuts off comes in the next turn: the kernel would not tell it again."""
        edges = self._edges
        if self._at >= self._count:
            self._at = 0
            self._count = edges.wait()
        self._thread.turn = self
        try:
            while self._at < self._count:
                at = self._at
                self._at = at + 1
                connection = self._connections[edges.descriptor(at)]
                if connection is not None:
                    if edges.is_end(at):
                        connection.wire.is_ending = True
                    connection.on_readable()
                    connection.release()
        except BaseException:  # a handler's `CancelledError`, say, ends its worker and arrives here
            self._core.loop.run_callback(self._go_on)
            raise
        finally:
            self._thread.turn = None

    def _go_on(self) -> None:
        """Look at sockets again after an error in a callback, for which gevent stops the watcher."""
        if self._io is not None:
            if not self._io.active:
                self._io.start(self.on_edges)
            self.on_edges()

    def next_request(self) -> Connection | None:
        """Return the next connection of the hub's turn that has a request; None when the hub has to go on.

        A worker that has answered asks: it saves the switches to the hub and to another worker. What wakes a greenlet is left to the hub,
        because that greenlet, when it waits again, goes on to the hub and not to the one that woke it.
        """
        if self._thread.turn is not self:
            return None
        edges = self._edges
        while self._at < self._count:
            at = self._at
            connection = self._connections[edges.descriptor(at)]
            if connection is not None:
                if connection.state != READING:
                    return None
                if edges.is_end(at):
                    connection.wire.is_ending = True
            self._at = at + 1
            if connection is not None:
                connection.release()
                if connection.take_request():
                    return connection
        return None

    def others_follow(self) -> bool:
        """Whether connections of this turn have not been looked at yet."""
        return self._at < self._count

    def pass_on(self) -> Any:
        """Switch to a parked worker with the next request. A new one would stand on the stack of the greenlet that makes it.

        Nothing on the way may wait: who waits already would be woken there. So it is the hub that logs what is refused.
        """
        core = self._core
        if core.parked == 0:
            return NOBODY
        connection = self.next_request()
        if connection is None:
            return NOBODY
        return _to(core.unpark(), connection)

    def close(self) -> None:
        """Call nobody any more; a second call does nothing."""
        if self._io is None:
            return
        self._io.stop()
        self._io.close()
        self._io = None
        self._edges.close()
        self._connections.clear()
        self._at = self._count = 0
