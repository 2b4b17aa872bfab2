"""The body of a request, read on the greenlet that asks for it."""

from nucleon.errors import BadRequest, Problem
from nucleon.http import ChunkedDecoder, MalformedInput
from nucleon.http.head import RequestHead
from nucleon.server.connection import Connection
from nucleon.server.problems import RequestTimeout, problem_from
from nucleon.server.wire import Block

_TURN_BYTES = 1_048_576  # of a body that comes faster than it is read; then the others have their turn
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Body:
    """Reads one body off its connection. `broken`: it can never be read to its end."""

    __slots__ = (
        "_connection", "_decoder", "_held", "_left", "_owes_continue", "_turn_bytes", "broken", "received_bytes", "waited_seconds",
        "waits_since",
    )  # fmt: skip

    def __init__(self, connection: Connection, head: RequestHead) -> None:
        self._connection = connection
        self._decoder = ChunkedDecoder(connection.server.limits, head.size) if head.chunked else None
        self._left = head.content_length
        self._held = b""
        self._owes_continue = head.expects_continue
        self._turn_bytes = 0
        self.broken: Problem | None = None
        self.received_bytes = 0
        self.waited_seconds = 0.0
        self.waits_since = 0.0

    def read(self, size: int = -1, /) -> bytes:
        """Return `size` bytes (all that is left for -1), fewer only at the end. Raises `Problem`: 400, 408, 413, 431."""
        if self._decoder is None and self._connection.wire.is_plain:
            return self._read_known(self._left if size < 0 or size > self._left else size)
        pieces, have = [self._held] if self._held else [], len(self._held)
        while size < 0 or have < size:
            piece = self._more()
            if not piece:
                break
            pieces.append(piece)
            have += len(piece)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if size < 0 or have <= size:
            self._held = b""
            return data
        self._held = data[size:]
        return data[:size]

    def _read_known(self, size: int) -> bytes:
        """Return `size` bytes of those that Content-Length has announced, received where they will stay. Raises `Problem`."""
        if self.broken is not None:
            raise self.broken
        connection = self._connection
        data = connection.pending
        have = min(len(data), size)
        if have:
            self._owes_continue = False
            self._take_note(have)
        connection.pending = data[have:]
        if have == size:
            return data[:have]
        block = Block(size)
        block.add(data)
        try:
            self._fill(block)
        except BaseException:
            if self.broken is None:  # what has been read is lost: who catches this must not go on in the middle
                self.broken = BadRequest("reading the body was interrupted")
            raise
        return block.take()

    def _fill(self, block: Block) -> None:
        """Receive until the block is full; after each megabyte the others have their turn."""
        connection = self._connection
        while block.filled < block.size:
            count = -1 if self._owes_continue or self._turn_bytes >= _TURN_BYTES else block.receive(connection.wire)
            if count > 0:
                self._take_note(count)
            elif count < 0:
                self._wait(True)
            else:
                connection.eof = True
                self._end_with("ended")

    def _take_note(self, count: int) -> None:
        self._left -= count
        self.received_bytes += count
        self._turn_bytes += count

    def is_finished(self) -> bool:
        """Consume what is already here, without waiting, and tell whether that was all of it."""
        try:
            while not self._ended() and self._connection.pending:
                self._decode()
        except Problem:
            return False
        return self._ended() and self.broken is None

    def is_late(self, instant: float) -> bool:
        """Tell whether the wait that is going on has lasted too long."""
        settings = self._connection.server.settings
        allowed = settings.body_seconds + self.received_bytes / settings.body_bytes_per_second
        return self.waited_seconds + instant - self.waits_since > allowed

    def _ended(self) -> bool:
        return self._left == 0 if self._decoder is None else self._decoder.done

    def _more(self) -> bytes:
        if self.broken is not None:
            raise self.broken
        connection = self._connection
        while not self._ended():
            if not connection.pending:
                self._wait(False)
            piece = self._decode()
            if piece:
                return piece
        return b""

    def _wait(self, is_filling: bool) -> None:
        self._turn_bytes = 0
        connection = self._connection
        if self._owes_continue:
            self._owes_continue = False
            connection.send(_CONTINUE)
        self._end_with(connection.wait_for_input(self, is_filling))

    def _end_with(self, outcome: str) -> None:
        """Raise when a wait has not ended with input: the body is broken then."""
        if outcome == "late":
            self.broken = RequestTimeout("the body came too slowly")
        elif outcome == "ended":
            self.broken = BadRequest("the connection ended within the body")
        if self.broken is not None:
            raise self.broken

    def _decode(self) -> bytes:
        connection = self._connection
        data, connection.pending = connection.pending, b""
        self._owes_continue = False
        self.received_bytes += len(data)
        if self._decoder is None:
            piece = data[: self._left]
            connection.pending = data[self._left :]
            self._left -= len(piece)
            return piece
        try:
            piece = self._decoder.receive(data)
        except MalformedInput as wrong:
            self.broken = problem_from(wrong)
            raise self.broken from None
        if self._decoder.done:
            connection.pending = self._decoder.rest
        return piece
