"""A socket that is read and written from the event loop: no greenlet reads, none writes while the socket keeps up."""

# the loop's own watchers: a persistent one costs no system call per read, which gevent's sockets do
import _socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from gevent import get_hub

from nucleon.green.waits import TIMED_OUT, Waits, waiter

READ_BYTES = 131_072  # what one turn of the loop takes: small enough that dispatching it stalls nobody for 10 ms
HIGH_WATER_BYTES = 131_072  # unsent bytes above which publishers wait
INLINE_BYTES = 65_536  # larger writes go through the outbox
PIECES_PER_TURN = 4  # of large messages, a frame each: sending more would keep others waiting


class Cipher:
    """TLS between the socket's bytes and ours, without a socket of its own."""

    __slots__ = ("_incoming", "_outgoing", "session")

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def shake_hands(self, receive: Callable[[], bytes], send: Callable[[bytes], object]) -> None:
        """Run the handshake over two functions that may wait. Raises `ssl.SSLError`, `OSError`."""
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                send(self._outgoing.read())
                data = receive()
                if not data:
                    raise ConnectionResetError("the server closed the connection during the TLS handshake") from None
                self._incoming.write(data)
            else:
                send(self._outgoing.read())
                return

    def encrypt(self, data: bytes) -> bytes:
        """Return what to send for `data`."""
        if data:
            self.session.write(data)
        return self._outgoing.read()

    def decrypt(self, data: bytes) -> bytes:
        """Return the plain bytes that are complete now; none at all at the end of the stream too."""
        self._incoming.write(data)
        parts = []
        while True:
            try:
                part = self.session.read(READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                break
            if not part:
                break
            parts.append(part)
        return b"".join(parts)


class Transport:
    """One connected socket under the event loop.

    take: is given every piece that arrives, in the loop; it must not wait. lost: is told once when the stream has ended, and why.
    """

    def __init__(self, raw: _socket.socket, cipher: Cipher | None, waits: Waits) -> None:
        raw.setblocking(False)
        loop: Any = get_hub().loop
        self._raw: _socket.socket | None = raw
        self._cipher = cipher
        self._waits = waits
        self._raw_send = raw.send
        self._raw_receive = raw.recv
        self._later = loop.run_callback
        self._outbox: deque[bytes] = deque()
        self._rest = b""  # bytes for the wire that the socket did not take
        self._is_hot = False  # a flush is due in this turn of the loop
        self._room: deque[Any] = deque()
        self._collectors: list[Callable[[], bytes]] = []
        self._pieces: deque[bytes] = deque()
        self._pieces_taken = 0
        self._room_for_pieces: deque[Any] = deque()
        self.pieces_sent = 0
        self.unsent_pieces_bytes = 0
        self._reading = loop.io(raw.fileno(), 1)
        self._writing = loop.io(raw.fileno(), 2)
        self._turn = loop.timer(0.0)  # after sockets and timers had their turn; callbacks come before them, again and again
        self._take: Callable[[bytes], None] = _ignore
        self._lost: Callable[[Exception], None] = _ignore
        self.unsent_bytes = 0
        self.read_at = monotonic()
        self.has_written = False
        self.is_paused = False

    def start(self, take: Callable[[bytes], None], lost: Callable[[Exception], None]) -> None:
        """Begin to read."""
        self._take, self._lost = take, lost
        self._reading.start(self._readable)

    def send(self, data: bytes) -> None:
        """Send bytes now when nothing is under way, else with all others of this turn; never waits."""
        if self._raw is None:
            return
        if self._collectors:
            self._collect()
        if not self._is_hot:
            self._is_hot = True
            self._later(self._flush)
            if not self.unsent_bytes and len(data) < INLINE_BYTES:
                self._push(data)
                return
        self._outbox.append(data)
        self.unsent_bytes += len(data)

    def send_pieces(self, pieces: Iterable[bytes]) -> int:
        """Send frames of a large message one by one, after whatever else there is to send: others go in between.

        Return the number of the last: it has been sent when `pieces_sent` has reached that.
        """
        if self._raw is not None:
            for piece in pieces:
                self._pieces.append(piece)
                self._pieces_taken += 1
                self.unsent_pieces_bytes += len(piece)
            self._flush_later()
        return self._pieces_taken

    def send_last(self, data: bytes) -> None:
        """Send bytes behind everything, pieces included."""
        if self._pieces:
            self.send_pieces((data,))
        else:
            self.send(data)

    def send_soon(self, collect: Callable[[], bytes]) -> None:
        """Send what `collect()` returns at the end of this turn, or before whatever is sent earlier."""
        self._collectors.append(collect)
        self._flush_later()

    def _flush_later(self) -> None:
        if not self._is_hot:
            self._is_hot = True
            self._later(self._flush)

    def _collect(self) -> None:
        collectors, self._collectors = self._collectors, []
        for collect in collectors:
            data = collect()
            if data:
                self._outbox.append(data)
                self.unsent_bytes += len(data)

    def is_full(self, is_large: bool = False) -> bool:
        """Tell whether so much is unsent that publishers have to wait; who has a large message waits for other large ones too."""
        return self.unsent_bytes > HIGH_WATER_BYTES or (is_large and self.unsent_pieces_bytes > HIGH_WATER_BYTES)

    def wait_for_room(self, seconds: float | None, is_large: bool = False) -> bool:
        """Wait until publishers may go on. False: not within `seconds`."""
        turn = waiter()
        turns = self._room_for_pieces if is_large else self._room
        turns.append(turn)
        try:
            return self._waits.wait(turn, seconds) is not TIMED_OUT
        finally:
            if turn in turns:
                turns.remove(turn)

    def pause(self) -> None:
        """Stop reading: somebody holds more than may be held."""
        if self._raw is not None and not self.is_paused:
            self.is_paused = True
            self._reading.stop()

    def resume(self) -> None:
        """Read again after `pause`."""
        if self._raw is not None and self.is_paused:
            self.is_paused = False
            self._reading.start(self._readable)

    def close(self) -> None:
        """Send what can be sent at once and close the socket. A second call does nothing."""
        if self._raw is None:
            return
        self._flush()
        raw, self._raw = self._raw, None
        self._reading.close()
        self._writing.close()
        self._turn.close()
        self._outbox.clear()
        self._pieces.clear()
        self._wake(self._room)
        self._wake(self._room_for_pieces)
        if raw is not None:
            raw.close()

    def _flush(self) -> None:
        """Send the outbox; runs in the loop and never waits."""
        self._is_hot = False
        if self._collectors:
            self._collect()
        if self._outbox and not self._rest and self._raw is not None:
            data = b"".join(self._outbox)
            self._outbox.clear()
            self.unsent_bytes = 0
            self._push(data)
        if self._pieces:
            self._push_pieces()
        if (self._room and not self.is_full()) or (self._room_for_pieces and not self.is_full(is_large=True)):
            self._turn.start(self._next_turn)

    def _next_turn(self) -> None:
        """Let publishers go on, or send more pieces, after others had their turn."""
        self._turn.stop()
        if self._raw is None:
            return
        if self._pieces and not self._is_hot:
            self._flush()
        if not self.is_full():
            self._wake(self._room)
        if not self.is_full(is_large=True):
            self._wake(self._room_for_pieces)

    def _push_pieces(self) -> None:
        for _ in range(PIECES_PER_TURN):
            if self._rest or not self._pieces or self._raw is None:
                return
            piece = self._pieces.popleft()
            self.unsent_pieces_bytes -= len(piece)
            self.pieces_sent += 1
            self._push(piece)
        if self._pieces:
            self._turn.start(self._next_turn)

    def _push(self, data: bytes) -> None:
        """Give bytes to the socket; what it does not take waits for it to be writable. The caller saw that nothing else waits."""
        self.has_written = True
        try:
            if self._cipher is not None:
                data = self._cipher.encrypt(data)
            sent = self._raw_send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._later(self._end, error)
            return
        if sent < len(data):
            self._rest = data[sent:]
            self.unsent_bytes += len(self._rest)
            self._writing.start(self._writable)

    def _writable(self) -> None:
        rest, self._rest = self._rest, b""
        self.unsent_bytes -= len(rest)
        try:
            sent = self._raw_send(rest)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end(error)
            return
        if sent < len(rest):
            self._rest = rest[sent:]
            self.unsent_bytes += len(self._rest)
            return
        self._writing.stop()
        self._flush()

    def _readable(self) -> None:
        try:
            data = self._raw_receive(READ_BYTES)
            if self._cipher is not None and data:
                data = self._cipher.decrypt(data)
                if not data:
                    self.read_at = monotonic()
                    return
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if not data:
            self._end(ConnectionResetError("RabbitMQ closed the connection"))
            return
        self.read_at = monotonic()
        self._take(data)

    def _end(self, error: Exception) -> None:
        if self._raw is not None:
            self._lost(error)

    def _wake(self, turns: deque[Any]) -> None:
        while turns:
            self._waits.wake(turns.popleft())


def _ignore(_argument: object) -> None:
    """Stand in until `start` is called."""
