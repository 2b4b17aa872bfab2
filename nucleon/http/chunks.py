"""The chunked transfer coding, decoded (RFC 9112 section 7.1).

Written for the compiler: `chunks.pxd` gives the loops C types; interpreted it gives the same answers, slower.
"""

import re

from nucleon.http.fields import parse_fields
from nucleon.http.malformed import Limits, MalformedInput
from nucleon.http.native import move
from nucleon.http.octets import DIGIT

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})((?:%b)*)\r\n" % _EXTENSION)
_SIZE, _DATA, _DATA_CR, _DATA_LF, _TRAILERS, _DONE = range(6)


class ChunkedDecoder:
    """Takes wire bytes as they come, gives body bytes; nothing is returned that was not framed well.

    done: the last chunk and the trailers have been read; `rest` then holds what followed them.
    """

    __slots__ = ("_extension_bytes", "_left", "_limits", "_line", "_state", "_total", "done", "head_bytes", "rest")

    def __init__(self, limits: Limits, head_bytes: int = 0) -> None:
        """head_bytes: what the head has taken of the budget that trailers share."""
        self._limits = limits
        self._state = _SIZE
        self._left = 0
        self._total = 0
        self._extension_bytes = 0
        self._line = b""  # the begin of a size line, or of the trailers
        self.done = False
        self.head_bytes = head_bytes
        self.rest = b""

    def receive(self, data: bytes) -> bytes:
        """Return the body bytes in `data` (b"" for none yet). Raises `MalformedInput`: 400, 413, 431."""
        place = bytearray(data)
        return bytes(place[: self.unframe(place, 0, len(place))])

    def unframe(self, place: bytes | bytearray, at: int, end: int) -> int:
        """Take wire bytes from `place[at:end]`, leave the body's there, and return where these end. Raises `MalformedInput`.

        place: bytes only when they are new and nobody else has seen them, since they change.
        """
        octets = place
        to = at
        while at < end and not self.done:
            if self._state == _DATA:
                take = min(self._left, end - at)
                if to != at:
                    move(place, to, at, take)
                to += take
                at += take
                self._left -= take
                if self._left == 0:
                    self._state = _DATA_CR
            elif self._state == _SIZE:
                at = self._size_line(place, at, end)
            elif self._state == _TRAILERS:
                at = self._trailers(place, at, end)
            else:
                if octets[at] != (13 if self._state == _DATA_CR else 10):
                    raise MalformedInput("chunk data does not end where its size says")
                self._state = _DATA_LF if self._state == _DATA_CR else _SIZE
                at += 1
        if at < end:
            self.rest += place[at:end]
        return to

    def _size_line(self, place: bytes | bytearray, at: int, end: int) -> int:
        """Read a line that is digits alone and wholly here, and return where it ends; others are looked at in another way."""
        octets = place
        digit = DIGIT
        here = at
        size = 0
        last = min(at + 15, end)
        while here < last and digit[octets[here]] < 16:
            size = size * 16 + digit[octets[here]]
            here += 1
        if self._line or here == at or here + 2 > end or octets[here] != 13 or octets[here + 1] != 10:
            return self._odd_size_line(place, at, end)
        self._begin_chunk(size)
        return here + 2

    def _odd_size_line(self, place: bytes | bytearray, at: int, end: int) -> int:
        """Read a line with extensions, or one that comes in parts, or one that is wrong."""
        longest = self._limits.chunk_extension_bytes + 32
        end = min(end, at + longest - len(self._line))
        stop = place.find(b"\n", at, end) + 1
        line = self._line + place[at : stop or end]
        self._line = b""
        if not stop:
            if len(line) >= longest:
                raise MalformedInput("a chunk size line is too long")
            self._line = line
            return end
        if line[-2:] != b"\r\n":
            raise MalformedInput("a chunk size line does not end with CRLF")
        good = _SIZE_LINE.fullmatch(line)
        if good is None:
            raise MalformedInput("a chunk size line is not a hexadecimal size and extensions")
        self._extension_bytes += len(good[2])
        if self._extension_bytes > self._limits.chunk_extension_bytes:
            raise MalformedInput("too many chunk extensions")
        self._begin_chunk(int(good[1], 16))
        return stop

    def _begin_chunk(self, size: int) -> None:
        """The next chunk has so many bytes; the last one has none."""
        self._left = size
        self._total += size
        if self._total > self._limits.body_bytes:
            raise MalformedInput(f"the body is longer than {self._limits.body_bytes} bytes", 413)
        self._state = _DATA if size else _TRAILERS

    def _trailers(self, place: bytes | bytearray, at: int, end: int) -> int:
        """Check trailers and drop them: they are never merged into the head (RFC 9110 6.5.1)."""
        budget = self._limits.head_bytes - self.head_bytes
        begun = len(self._line)
        data = self._line + place[at : min(end, at + max(0, budget) + 1 - begun)]
        stop = 2 if data[:2] == b"\r\n" else data.find(b"\r\n\r\n") + 4
        is_whole = stop != 3
        if (stop if is_whole else len(data)) > budget:
            raise MalformedInput("the trailers are too long", 431)
        if not is_whole:
            if b"\n" in data.replace(b"\r\n", b""):
                raise MalformedInput("a bare LF in the trailers")
            self._line = data
            return end
        parse_fields(data, 0, stop, self._limits)
        self._line = b""
        self._state = _DONE
        self.done = True
        return at + stop - begun
