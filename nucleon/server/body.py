"""The body of a request, read on the greenlet that asks for it."""

from nucleon.errors import BadRequest, Problem
from nucleon.http import MalformedInput
from nucleon.http.chunks import ChunkedDecoder
from nucleon.http.head import RequestHead
from nucleon.server.connection import Connection
from nucleon.server.problems import RequestTimeout, problem_from
from nucleon.server.wire import ROOM_BYTES, Block

_TURN_BYTES = 1_048_576  # of a body that comes faster than it is read; then the others have their turn
_CHUNKS_BYTES = 262_144  # of chunks at a time: their bytes are moved together while the caches have them
_AHEAD_BYTES = 4096  # room for the framing of chunks, and for what a reader of small pieces will ask for next
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Body:
    """Reads one body off its connection. `broken`: it can never be read to its end."""

    __slots__ = (
        "_connection", "_decoder", "_held", "_left", "_owes_continue", "_turn_bytes", "broken", "received_bytes", "waited_seconds",
        "waits_since",
    )  # fmt: skip

    def __init__(self, connection: Connection, head: RequestHead) -> None:
        """_left: bytes that Content-Length still announces, or the most that chunks may bring. _held: read ahead."""
        self._connection = connection
        limits = connection.server.limits
        self._decoder = ChunkedDecoder(limits, head.size) if head.chunked else None
        self._left = limits.body_bytes if head.chunked else head.content_length
        self._held = b""
        self._owes_continue = head.expects_continue
        self._turn_bytes = 0
        self.broken: Problem | None = None
        self.received_bytes = 0
        self.waited_seconds = 0.0
        self.waits_since = 0.0

    def read(self, size: int = -1, /) -> bytes:
        """Return `size` bytes (all that is left for -1), fewer only at the end. Raises `Problem`: 400, 408, 413, 431."""
        if self.broken is not None:
            raise self.broken
        held = self._held
        most = len(held) + self._left
        wanted = most if size < 0 or size > most else size
        if wanted <= len(held) and (size >= 0 or self._left == 0):
            self._held = held[wanted:]
            return held[:wanted]
        if self._decoder is None and not held and len(self._connection.pending) >= wanted:
            return self._taken(wanted)
        try:
            return self._received(wanted, most, size < 0)
        except BaseException:
            if self.broken is None:  # what has been read is lost: who catches this must not go on in the middle
                self.broken = BadRequest("reading the body was interrupted")
            raise

    def _taken(self, wanted: int) -> bytes:
        """Return bytes that Content-Length has announced and that are here."""
        connection = self._connection
        data = connection.pending
        connection.pending = data[wanted:]
        self._owes_continue = False
        self._take_note(wanted)
        return data[:wanted]

    def _received(self, wanted: int, most: int, is_all: bool) -> bytes:
        """Return what has been read ahead and what comes, received where it will stay. Raises `Problem`."""
        connection = self._connection
        held, self._held = self._held, b""
        decoder = self._decoder
        if decoder is not None:
            pending = len(connection.pending)
            block = Block(wanted + _AHEAD_BYTES, len(held) + pending + _AHEAD_BYTES if pending else ROOM_BYTES)
        else:
            block = Block(min(most, max(wanted, _AHEAD_BYTES)))
        block.add(held)
        if decoder is None:
            while block.filled < wanted:
                self._receive(block)
        else:
            while not decoder.done and (is_all or block.filled < wanted):
                self._receive_chunks(block, decoder)
            if decoder.done:
                connection.pending = decoder.rest + connection.pending
                decoder.rest = b""
                self._left = 0
        if not connection.wire.is_plain:
            connection.pending += connection.wire.rest()
        if block.filled > wanted:
            self._held = block.cut(wanted)
        return block.take()

    def _receive(self, block: Block) -> int:
        """Put into the block what is here, and return how much that was, or wait. After each megabyte the others have their turn."""
        connection = self._connection
        if self._turn_bytes >= _TURN_BYTES:
            self._turn_bytes = 0
            connection.give_way()
        data = connection.pending
        if data:
            count = block.add(data)
            connection.pending = data[count:]
            self._owes_continue = False
        elif self._owes_continue:
            count = -1
        else:
            count = block.receive(connection.wire, _TURN_BYTES if self._decoder is None else _CHUNKS_BYTES)
        if count < 0:
            self._turn_bytes = 0
            self._wait()
            return 0
        if count == 0:
            connection.eof = True
            self._end_with("ended")
        self._take_note(count)
        return count

    def _receive_chunks(self, block: Block, decoder: ChunkedDecoder) -> None:
        start = block.filled
        if self._receive(block):
            try:
                block.unframe(decoder, start)
            except MalformedInput as wrong:
                self.broken = problem_from(wrong)
                raise self.broken from None

    def _take_note(self, count: int) -> None:
        if self._decoder is None:
            self._left -= count
        self.received_bytes += count
        self._turn_bytes += count

    def is_finished(self) -> bool:
        """Consume what is already here, without waiting, and tell whether that was all of it."""
        if self.broken is not None:
            return False
        connection = self._connection
        data = connection.pending
        decoder = self._decoder
        if decoder is None:
            have = min(len(data), self._left)
            connection.pending = data[have:]
            self._left -= have
            return self._left == 0
        if data and not decoder.done:
            try:
                decoder.receive(data)
            except MalformedInput as wrong:
                self.broken = problem_from(wrong)
                return False
            connection.pending = decoder.rest
        return decoder.done

    def is_late(self, instant: float) -> bool:
        """Tell whether the wait that is going on has lasted too long."""
        settings = self._connection.server.settings
        allowed = settings.body_seconds + self.received_bytes / settings.body_bytes_per_second
        return self.waited_seconds + instant - self.waits_since > allowed

    def _wait(self) -> None:
        connection = self._connection
        if self._owes_continue:
            self._owes_continue = False
            connection.send(_CONTINUE)
            if connection.pending:
                return  # it came while the client took this
        self._end_with(connection.wait_for_input(self))

    def _end_with(self, outcome: str) -> None:
        """Raise when a wait has not ended with input: the body is broken then."""
        if outcome == "late":
            self.broken = RequestTimeout("the body came too slowly")
        elif outcome == "ended":
            self.broken = BadRequest("the connection ended within the body")
        if self.broken is not None:
            raise self.broken
