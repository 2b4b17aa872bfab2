"""The head of a response: status and fields to bytes (RFC 9112 section 4, RFC 9110 sections 6.4 and 6.6)."""

import re
from email.utils import formatdate
from http import HTTPStatus
from time import time

CHUNKED = -2
"""Framing of a body whose length is unknown, for HTTP/1.1."""
UNTIL_CLOSE = -1
"""Framing of a body whose length is unknown, for HTTP/1.0."""

_PHRASES = {413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}  # RFC 9110 15.5
STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {_PHRASES.get(status.value, status.phrase)}\r\n".encode() for status in HTTPStatus
}
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(r"[0-9]{1,18}")
_LINES: dict[tuple[str, str], bytes] = {}
_LINES_MAXIMUM = 512
_KINDS: dict[str, int] = {**dict.fromkeys(_HOP_BY_HOP, 1), "content-length": 2, "date": 3, "server": 3}


class _Clock:
    """The Date line of this second."""

    second = 0
    line = b""


def date_line() -> bytes:
    """Return the `Server` and `Date` lines; made anew once a second."""
    now = int(time())
    if now != _Clock.second:
        _Clock.line = f"Server: nucleon\r\nDate: {formatdate(now, usegmt=True)}\r\n".encode()
        _Clock.second = now
    return _Clock.line


def is_bodiless(status: int) -> bool:
    """Tell whether a response with this status never has a body (RFC 9112 6.3)."""
    return status < 200 or status in (204, 304)


def reply_head(
    status: int, headers: list[tuple[str, str]], body_bytes: int, *, minor: int = 1, to_head: bool = False, keep_alive: bool = True
) -> tuple[bytes, int, bool]:
    """Return the head as bytes, how the body is framed, and whether the connection may stay.

    body_bytes: the length of the body, -1 when unknown. to_head: the answer to a HEAD request: no body follows.
    The framing is a number of bytes (0: no body follows), `CHUNKED` or `UNTIL_CLOSE`.
    Raises `ValueError` for a status, name or value that must not go on the wire.
    """
    line = STATUS_LINES.get(status)
    if line is None:
        if not 200 <= status <= 599:
            raise ValueError(f"{status} is not a final status")
        line = f"HTTP/1.1 {status} \r\n".encode()
    elif status < 200:
        raise ValueError(f"{status} is not a final status")
    parts = [line]
    declared = -1
    for pair in headers:
        known = _LINES.get(pair)
        if known is not None:
            parts.append(known)
            continue
        name, value = pair
        kind = _kind(name, value)
        if kind == 1:
            if name.lower() == "connection" and "close" in value.lower():
                keep_alive = False
            continue
        if kind == 2:
            if _LENGTH.fullmatch(value) is None:
                raise ValueError(f"Content-Length {value!r} is not a number")
            declared = int(value)
            continue
        if kind == 0:
            parts.append(_line(pair))
    return _framed(
        parts, status=status, declared=declared, body_bytes=body_bytes, minor=minor, to_head=to_head, keep_alive=keep_alive
    )


def _framed(
    parts: list[bytes], *, status: int, declared: int, body_bytes: int, minor: int, to_head: bool, keep_alive: bool
) -> tuple[bytes, int, bool]:
    """Add Server, Date, framing and Connection."""
    parts.append(date_line())
    framing = 0
    if not is_bodiless(status):
        length = body_bytes if body_bytes >= 0 and not (to_head and declared >= 0) else declared
        if declared >= 0 and body_bytes >= 0 and body_bytes != declared and not to_head:
            length = declared
            keep_alive = keep_alive and body_bytes >= declared
        framing = length
        if length >= 0:
            parts.append(b"Content-Length: %d\r\n" % length)
        elif minor == 1:
            framing = CHUNKED
            parts.append(b"Transfer-Encoding: chunked\r\n")
        else:
            framing = UNTIL_CLOSE
            keep_alive = keep_alive and to_head
    if to_head:
        framing = 0
    if not keep_alive:
        parts.append(b"Connection: close\r\n\r\n")
    elif minor == 0:
        parts.append(b"Connection: keep-alive\r\n\r\n")
    else:
        parts.append(b"\r\n")
    return b"".join(parts), framing, keep_alive


def _kind(name: str, value: str) -> int:
    """Return 0 for a field to send, 1 hop-by-hop, 2 Content-Length, 3 what the server says itself. Raises `ValueError`."""
    if not isinstance(name, str) or not isinstance(value, str):
        raise ValueError("field names and values are strings")
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not a field name")
    if _VALUE.fullmatch(value) is None:
        raise ValueError(f"the value of {name} has characters that no field may have")
    return _KINDS.get(name.lower(), 0)


def _line(pair: tuple[str, str]) -> bytes:
    name, value = pair
    line = f"{name}: {value}\r\n".encode("latin-1")
    if len(line) < 256:
        if len(_LINES) >= _LINES_MAXIMUM:
            _LINES.clear()
        _LINES[pair] = line
    return line
