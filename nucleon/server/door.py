"""A listening socket, and the clients that come through it."""

import _socket
import errno
from collections.abc import Callable

from nucleon.server.connection import open_plain
from nucleon.server.core import Core
from nucleon.server.wire import accept

ACCEPT_BATCH = 32
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Door:
    """Accepts in batches while its watcher runs. welcome: begins a connection that is more than a plain one, given descriptor,
    family and address of the client.
    """

    __slots__ = ("_core", "_listener", "_watcher", "_welcome", "family")

    def __init__(self, core: Core, listener: _socket.socket, welcome: Callable[[int, int, str], None] | None) -> None:
        """listener: ours from now on."""
        self.family = int(listener.family)
        self._core = core
        self._listener = listener
        self._welcome = welcome
        self._watcher = core.loop.io(listener.fileno(), 1)

    def open(self) -> None:
        """Accept from now on; a second call does nothing."""
        if not self._watcher.active:
            self._watcher.start(self.accept)

    def shut(self) -> None:
        """Accept no more, until `open`."""
        self._watcher.stop()

    def close(self) -> None:
        """Close the listening socket."""
        self._watcher.stop()
        self._watcher.close()
        self._listener.close()

    def accept(self) -> None:
        """Take those who wait, at most a batch. Runs in the hub."""
        core = self._core
        try:
            for _ in range(ACCEPT_BATCH):
                if not core.accepting:
                    return  # a request of the batch has stopped it
                if len(core.connections) + core.arriving >= core.maximum_connections:
                    core.stand_back(None)
                    return
                try:
                    client = accept(self._listener)
                except OSError as error:
                    if error.errno in _EXHAUSTED:
                        core.stand_back(error)
                        return
                    continue  # the peer has gone already
                if client is None:
                    return
                if self._welcome is None:
                    open_plain(core, client[0], self.family, client[1])
                else:
                    self._welcome(client[0], self.family, client[1])
        except BaseException:  # a handler's `CancelledError`, say: the first request often comes with the connection
            core.loop.run_callback(self._go_on)
            raise

    def _go_on(self) -> None:
        """Accept again after an error in a callback, for which gevent stops the watcher."""
        if self._core.accepting and self._listener.fileno() >= 0:
            self.open()
