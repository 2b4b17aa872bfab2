"""The chunked transfer coding, decoded (RFC 9112 section 7.1)."""

import re

from nucleon.http.fields import parse_fields
from nucleon.http.malformed import Limits, MalformedInput

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})((?:%b)*)" % _EXTENSION)
_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class ChunkedDecoder:
    """Takes wire bytes as they come, gives body bytes; nothing is returned that was not framed well.

    done: the last chunk and the trailers have been read; `rest` then holds what followed them.
    """

    __slots__ = ("_extension_bytes", "_left", "_limits", "_state", "_total", "head_bytes", "rest")

    def __init__(self, limits: Limits, head_bytes: int = 0) -> None:
        """head_bytes: what the head has taken of the budget that trailers share."""
        self._limits = limits
        self._state = _SIZE
        self._left = 0
        self._total = 0
        self._extension_bytes = 0
        self.head_bytes = head_bytes
        self.rest = b""

    @property
    def done(self) -> bool:
        """Tell whether the body has ended."""
        return self._state == _DONE

    def receive(self, data: bytes) -> bytes:
        """Return the body bytes in `data` (b"" for none yet). Raises `MalformedInput`: 400, 413, 431."""
        if self.rest:
            data = self.rest + data
        pieces: list[bytes] = []
        at = 0
        size = len(data)
        while at < size or self._state == _DONE:
            before = at
            if self._state == _DATA:
                take = min(self._left, size - at)
                pieces.append(data[at : at + take])
                at += take
                self._left -= take
                if self._left == 0:
                    self._state = _DATA_END
                continue
            if self._state == _DATA_END:
                at = self._after_data(data, at)
            elif self._state == _SIZE:
                at = self._size_line(data, at)
            elif self._state == _TRAILERS:
                at = self._trailers(data, at)
            else:
                break
            if at == before:
                break
        self.rest = data[at:]
        return b"".join(pieces)

    def _after_data(self, data: bytes, at: int) -> int:
        if data[at] != 13 or (len(data) > at + 1 and data[at + 1] != 10):
            raise MalformedInput("chunk data does not end where its size says")
        if len(data) < at + 2:
            return at
        self._state = _SIZE
        return at + 2

    def _size_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at, at + self._limits.chunk_extension_bytes + 32)
        if end < 0:
            if len(data) - at >= self._limits.chunk_extension_bytes + 32:
                raise MalformedInput("a chunk size line is too long")
            return at
        if end == at or data[end - 1] != 13:
            raise MalformedInput("a chunk size line does not end with CRLF")
        line = _SIZE_LINE.fullmatch(data, at, end - 1)
        if line is None:
            raise MalformedInput("a chunk size line is not a hexadecimal size and extensions")
        self._extension_bytes += len(line[2])
        if self._extension_bytes > self._limits.chunk_extension_bytes:
            raise MalformedInput("too many chunk extensions")
        self._left = int(line[1], 16)
        self._total += self._left
        if self._total > self._limits.body_bytes:
            raise MalformedInput(f"the body is longer than {self._limits.body_bytes} bytes", 413)
        self._state = _DATA if self._left else _TRAILERS
        return end + 1

    def _trailers(self, data: bytes, at: int) -> int:
        """Check trailers and drop them: they are never merged into the head (RFC 9110 6.5.1)."""
        if data[at : at + 2] == b"\r\n":
            end = at + 2
        else:
            end = data.find(b"\r\n\r\n", at) + 4
        budget = self._limits.head_bytes - self.head_bytes
        if (len(data) if end == 3 else end) - at > budget:
            raise MalformedInput("the trailers are too long", 431)
        if end == 3:
            if b"\n" in data[at:].replace(b"\r\n", b""):
                raise MalformedInput("a bare LF in the trailers")
            return at
        parse_fields(data, at, end, self._limits)
        self._state = _DONE
        return end
