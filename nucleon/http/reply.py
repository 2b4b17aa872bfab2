"""The head of a response: status and fields to bytes (RFC 9112 section 4, RFC 9110 sections 6.4 and 6.6)."""

import re
from email.utils import formatdate
from http import HTTPStatus

from nucleon.http.native import second

CHUNKED = -2
"""Framing of a body whose length is unknown, for HTTP/1.1."""
UNTIL_CLOSE = -1
"""Framing of a body whose length is unknown, for HTTP/1.0."""

_PHRASES = {413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}  # RFC 9110 15.5
STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {_PHRASES.get(status.value, status.phrase)}\r\n".encode() for status in HTTPStatus
}
_FIRST_LINES = [STATUS_LINES.get(number) for number in range(600)]
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_KINDS: dict[str, int] = {**dict.fromkeys(_HOP_BY_HOP, 1), "content-length": 2, "date": 3, "server": 3}
_NAMES: dict[str, "ReplyName"] = {}
_NAMES_MAXIMUM = 256
_LINES_MAXIMUM = 32
_LENGTH_LINES: list[bytes | None] = [None] * 4096


class Clock:
    """The Date line of this second."""

    __slots__ = ("line", "second")

    def __init__(self) -> None:
        self.second = 0
        self.line = b""


_CLOCK = Clock()


class ReplyName:
    """A spelling of a field name that an application used.

    kind: 0 for a field to send, 1 hop-by-hop, 2 Content-Length, 3 what the server says itself. lines: the whole line by value.
    """

    __slots__ = ("kind", "lines", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind = _KINDS.get(name.lower(), 0)
        self.lines: dict[str, bytes] = {}

    def line(self, value: str) -> bytes:
        """Return the line for a value, checked. Raises `ValueError`."""
        if not isinstance(value, str):
            raise ValueError("field names and values are strings")
        if _VALUE.fullmatch(value) is None:
            raise ValueError(f"the value of {self.name} has characters that no field may have")
        line = f"{self.name}: {value}\r\n".encode("latin-1")
        if len(line) < 256:
            if len(self.lines) >= _LINES_MAXIMUM:
                self.lines.clear()
            self.lines[value] = line
        return line


class Reply:
    """The head of a response in parts, how its body is framed, and whether the connection may stay."""

    __slots__ = ("framing", "keep_alive", "parts")

    parts: list[bytes]
    framing: int
    keep_alive: bool


def date_line() -> bytes:
    """Return the `Server` and `Date` lines; made anew once a second."""
    now = second()
    if now != _CLOCK.second:
        _CLOCK.line = f"Server: nucleon\r\nDate: {formatdate(now, usegmt=True)}\r\n".encode()
        _CLOCK.second = now
    return _CLOCK.line


def is_bodiless(status: int) -> bool:
    """Tell whether a response with this status never has a body (RFC 9112 6.3)."""
    return status < 200 or status in (204, 304)


def reply_head(
    status: int, headers: list[tuple[str, str]], body_bytes: int, *, minor: int = 1, to_head: bool = False, keep_alive: bool = True
) -> tuple[bytes, int, bool]:
    """Return the head as bytes, how the body is framed, and whether the connection may stay.

    The arguments and the errors are those of `compose`.
    The framing is a number of bytes (0: no body follows), `CHUNKED` or `UNTIL_CLOSE`.
    """
    reply = compose(status, headers, body_bytes, minor, to_head, keep_alive)
    return b"".join(reply.parts), reply.framing, reply.keep_alive


def compose(  # noqa: PLR0917  compiled functions that are called at C speed take no keywords
    status: int, headers: list[tuple[str, str]], body_bytes: int, minor: int, to_head: bool, keep_alive: bool
) -> Reply:
    """Compose the head of a response.

    body_bytes: the length of the body, -1 when unknown. to_head: the answer to a HEAD request: no body follows.
    Raises `ValueError` for a status, name or value that must not go on the wire.
    """
    if status < 200 or status > 599:
        raise ValueError(f"{status} is not a final status")
    line = _FIRST_LINES[status]
    if line is None:
        line = f"HTTP/1.1 {status} \r\n".encode()
    parts = [line]
    declared = -1
    for name, value in headers:
        known = _NAMES.get(name)
        if known is None:
            known = _name_from(name)
        if known.kind == 2:
            declared = _length_from(value)
            continue
        field = known.lines.get(value)
        if field is None:
            field = known.line(value)
        if known.kind == 0:
            parts.append(field)
        elif known.kind == 1 and known.name.lower() == "connection" and "close" in value.lower():
            keep_alive = False
    reply = Reply.__new__(Reply)
    reply.parts = parts
    reply.framing = 0
    reply.keep_alive = keep_alive
    _frame(reply, status, declared, body_bytes, minor, to_head)
    return reply


def _frame(  # noqa: PLR0917  as above
    reply: Reply, status: int, declared: int, body_bytes: int, minor: int, to_head: bool
) -> None:
    """Add Server, Date, framing and Connection."""
    parts = reply.parts
    parts.append(date_line())
    if not is_bodiless(status):
        length = body_bytes if body_bytes >= 0 and not (to_head and declared >= 0) else declared
        if declared >= 0 and body_bytes >= 0 and body_bytes != declared and not to_head:
            length = declared
            reply.keep_alive = reply.keep_alive and body_bytes >= declared
        if status == 205:
            length = 0  # it has no content (RFC 9110 15.3.6)
        reply.framing = length
        if length >= 0:
            parts.append(_length_line(length))
        elif minor == 1:
            reply.framing = CHUNKED
            parts.append(b"Transfer-Encoding: chunked\r\n")
        else:
            reply.framing = UNTIL_CLOSE
            reply.keep_alive = reply.keep_alive and to_head
    if to_head:
        reply.framing = 0
    if not reply.keep_alive:
        parts.append(b"Connection: close\r\n\r\n")
    elif minor == 0:
        parts.append(b"Connection: keep-alive\r\n\r\n")
    else:
        parts.append(b"\r\n")


def _length_line(length: int) -> bytes:
    """Return the Content-Length line; those of short bodies are kept."""
    if length >= 4096:
        return b"Content-Length: %d\r\n" % length
    line = _LENGTH_LINES[length]
    if line is None:
        line = b"Content-Length: %d\r\n" % length
        _LENGTH_LINES[length] = line
    return line


def _length_from(value: str) -> int:
    """Return the number of a Content-Length field."""
    length = 0
    if not isinstance(value, str) or not 0 < len(value) <= 18:
        raise ValueError(f"Content-Length {value!r} is not a number")
    for letter in value:
        digit = ord(letter) - 48
        if digit < 0 or digit > 9:
            raise ValueError(f"Content-Length {value!r} is not a number")
        length = length * 10 + digit
    return length


def _name_from(name: str) -> ReplyName:
    """Return what there is to know about a name; remember good ones. Raises `ValueError`."""
    if not isinstance(name, str):
        raise ValueError("field names and values are strings")
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not a field name")
    known = ReplyName(name)
    if len(_NAMES) < _NAMES_MAXIMUM and len(name) < 64:
        _NAMES[name] = known
    return known
