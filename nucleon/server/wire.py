"""The descriptor of one client: receive and send without waiting.

This is the interpreted twin of `wire.pyx`, which calls the C library; both give the same answers.
"""

import _socket
import os
import select
from contextvars import Context
from typing import Any

from gevent import getcurrent
from gevent.monkey import get_original

from nucleon.http.chunks import ChunkedDecoder

RECEIVE_BYTES = 65_536
ROOM_BYTES = 262_144
_LEAST_ROOM = 4096
_INPUT = select.EPOLLIN | select.EPOLLRDHUP
_ENDS = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


def accept(listener: _socket.socket) -> tuple[int, str] | None:
    """Take a client that waits: its descriptor, which never blocks, and its address ("" without one); None for nobody. Raises `OSError`."""
    try:
        fd, address = listener._accept()  # type: ignore[attr-defined]
    except (BlockingIOError, InterruptedError):
        return None
    os.set_blocking(fd, False)
    return fd, str(address[0]) if listener.family != _socket.AF_UNIX else ""


class Wire:
    """A connected stream socket that never blocks. Closing it is the owner's duty.

    is_plain: the bytes of the socket are those of the caller, so `send_file` can be used. is_drained: the last call that
    received has taken all there was. is_ending: the peer has ended or reset, though there may be bytes before that.
    """

    __slots__ = ("_socket", "fd", "is_drained", "is_ending", "is_plain", "is_reset")

    def __init__(self, fd: int, family: int) -> None:
        self.begin(fd, family)

    def begin(self, fd: int, family: int) -> None:
        """fd: a connected socket that does not block, ours from now on."""
        self.fd = fd
        self.is_plain = True
        self.is_drained = True
        self.is_ending = False
        self.is_reset = False
        self._socket = _socket.socket(family, _socket.SOCK_STREAM, 0, fd)
        self._socket.setblocking(False)

    def receive(self) -> bytes | None:
        """Return what has come, at most 65,536 bytes; b"" when the peer has ended or reset (`is_reset`); None when nothing has come."""
        self.is_drained = True
        try:
            data = self._socket.recv(RECEIVE_BYTES)
            self.is_drained = not data or (len(data) < RECEIVE_BYTES and not self.is_ending)
            return data
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            self.is_reset = True
            return b""

    def receive_into(self, place: memoryview) -> int:
        """Take what has come, at most as much as there is place for, and return how much; 0 at the end (`is_reset`), -1 for nothing yet."""
        self.is_drained = True
        try:
            count = self._socket.recv_into(place)
        except (BlockingIOError, InterruptedError):
            return -1
        except OSError:
            self.is_reset = True
            return 0
        self.is_drained = not count or (count < len(place) and not self.is_ending)
        return count

    def rest(self) -> bytes:
        """Return what `receive_into` has taken and had no place for: nothing, on a plain wire it stays in the kernel."""
        return b""

    def send(self, data: bytes, start: int) -> int:
        """Send `data[start:]` and return how many bytes were taken, 0 when there is no room now. Raises `OSError`."""
        try:
            return self._socket.send(memoryview(data)[start:] if start else data)
        except (BlockingIOError, InterruptedError):
            return 0

    def send_last(self, data: bytes) -> int:
        """Send as `send` does, but let what does not fill a packet wait for `end` or `close`, which has to follow at once."""
        try:
            return self._socket.send(data, _socket.MSG_MORE)
        except (BlockingIOError, InterruptedError):
            return 0

    def send_both(self, head: bytes, body: bytes) -> int:
        """Send head and body without joining them; as `send`."""
        try:
            return self._socket.sendmsg((head, body))
        except (BlockingIOError, InterruptedError):
            return 0

    def send_file(self, file: int, start: int, size: int) -> int:
        """Send bytes of a file from its position `start` by sendfile(2); -1 when there is no room now, 0 at its end. Raises `OSError`."""
        try:
            return os.sendfile(self.fd, file, start, size)
        except (BlockingIOError, InterruptedError):
            return -1

    def end(self) -> None:
        """Tell the peer that no more will be sent. Raises `OSError`."""
        self._socket.shutdown(_socket.SHUT_WR)

    def close(self) -> None:
        """Close the descriptor."""
        self._socket.close()


class Block:
    """So many bytes of a body, received where they will stay. At most twice the memory of what has come is taken, and 256 KiB."""

    __slots__ = ("_data", "filled", "size")

    def __init__(self, size: int, room: int = ROOM_BYTES) -> None:
        """size: how many bytes it can be. room: for how many there is memory to begin with."""
        self.size = size
        self.filled = 0
        self._data = bytearray(min(size, room))

    def _grow(self) -> None:
        room = len(self._data)
        if room - self.filled < _LEAST_ROOM and room < self.size:
            self._data.extend(bytes(min(self.size, max(ROOM_BYTES, 2 * room)) - room))

    def add(self, data: bytes) -> int:
        """Put bytes behind those that are here, and return how many there was room for."""
        self._grow()
        count = min(len(data), len(self._data) - self.filled)
        self._data[self.filled : self.filled + count] = data[:count]
        self.filled += count
        return count

    def receive(self, wire: Wire, most: int) -> int:
        """Take what has come, at most so much, and return how much; 0 when the peer has ended or reset (`is_reset`); -1 for nothing yet."""
        self._grow()
        with memoryview(self._data) as whole, whole[self.filled : self.filled + most] as place:
            count = wire.receive_into(place)
        self.filled += max(0, count)
        return count

    def unframe(self, decoder: ChunkedDecoder, start: int) -> None:
        """Leave of the bytes from `start` on those that the decoder makes of them. Raises `MalformedInput`."""
        self.filled = decoder.unframe(self._data, start, self.filled)

    def cut(self, size: int) -> bytes:
        """Keep `size` bytes, and return those behind them."""
        rest = bytes(self._data[size : self.filled])
        self.filled = size
        return rest

    def take(self) -> bytes:
        """Return the bytes that are here; the block is of no use any more."""
        del self._data[self.filled :]
        return bytes(self._data)


class Edges:
    """An epoll instance that tells each arrival of input once (epoll(7), "edge-triggered")."""

    __slots__ = ("_epoll", "_found", "fd")

    def __init__(self) -> None:
        self._epoll = get_original("select", "epoll")()
        self._found: list[tuple[int, int]] = []
        self.fd: int = self._epoll.fileno()

    def add(self, fd: int) -> None:
        """Tell about a descriptor from now on; also what is here already. Raises `OSError`."""
        self._epoll.register(fd, _INPUT | select.EPOLLET)

    def again(self, fd: int) -> None:
        """Tell once more what is here. Raises `OSError`."""
        self._epoll.modify(fd, _INPUT | select.EPOLLET)

    def wait(self) -> int:
        """Take what there is to tell, without waiting, and return how much; `descriptor` and `is_end` have it then. Raises `OSError`."""
        self._found = self._epoll.poll(0, 128)
        return len(self._found)

    def descriptor(self, at: int) -> int:
        """Return whose edge it is."""
        return self._found[at][0]

    def is_end(self, at: int) -> bool:
        """Tell whether the peer has ended or reset."""
        return self._found[at][1] & _ENDS != 0

    def close(self) -> None:
        """Close the instance."""
        self._epoll.close()


def enter_context() -> Any:
    """Give the running greenlet a context of its own, empty; what is returned goes to `leave_context`."""
    running: Any = getcurrent()
    before, running.gr_context = running.gr_context, Context()
    return before


def leave_context(before: Any) -> None:
    """Go back to the context before, given what `enter_context` returned."""
    running: Any = getcurrent()
    running.gr_context = before
