"""A client behind a TCP proxy, until the proxy has said who it is."""

import _socket
import logging
from collections.abc import Callable
from typing import Any

from nucleon.http import MalformedInput
from nucleon.http.proxy_protocol import LONGEST_BYTES, preamble_from

log = logging.getLogger("nucleon.server")
_PAUSE_SECONDS = 0.05  # half a header is in the buffer: the watcher would fire without end


class Arrival:
    """A connection whose header of the PROXY protocol has not come yet.

    The header is looked at in the kernel's buffer and only then taken, so that what follows it stays there for the connection.
    since: the tick at which it came. The callbacks run in the hub. ready: given this arrival, its descriptor and the client's address;
    ended: given this arrival when it has closed without a header.
    """

    __slots__ = ("_again", "_ended", "_io", "_loop", "_ready", "_socket", "family", "peer", "since")

    def __init__(
        self,
        loop: Any,
        fd: int,
        family: int,
        *,
        peer: str,
        since: int,
        ready: "Callable[[Arrival, int, str], None]",
        ended: "Callable[[Arrival], None]",
    ) -> None:
        self.family = family
        self.peer = peer
        self.since = since
        self._loop = loop
        self._ready = ready
        self._ended = ended
        self._socket = _socket.socket(family, _socket.SOCK_STREAM, 0, fd)
        self._socket.setblocking(False)
        self._again: Any = None
        self._io: Any = loop.io(fd, 1)
        self._io.start(self._look)

    def _look(self) -> None:
        try:
            data = self._socket.recv(LONGEST_BYTES, _socket.MSG_PEEK)
            preamble = preamble_from(data) if data else None
        except (BlockingIOError, InterruptedError):
            return
        except MalformedInput as wrong:
            log.info("refused: %s; peer %s", wrong.what, self.peer or "unix")
            self.close()
            return
        except OSError:
            data, preamble = b"", None
        if preamble is not None:
            self._socket.recv(preamble.size)
            self._stop()
            self._ready(self, self._socket.detach(), preamble.client or self.peer)
        elif data:
            self._io.stop()
            self._again = self._loop.timer(_PAUSE_SECONDS)
            self._again.start(self._look_again)
        else:
            self.close()

    def _look_again(self) -> None:
        self._again.close()
        self._again = None
        self._io.start(self._look)

    def _stop(self) -> None:
        if self._again is not None:
            self._again.close()
            self._again = None
        self._io.stop()
        self._io.close()

    def close(self) -> None:
        """Close the socket without an answer: a proxy that does not speak the protocol could not read one."""
        self._stop()
        self._socket.close()
        self._ended(self)
