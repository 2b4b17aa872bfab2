"""The head of a request: bytes in, `RequestHead` or `MalformedInput` out (RFC 9112 sections 2, 3, 5 and 6).

Written for the compiler: `head.pxd` gives the loops C types; interpreted it gives the same answers, slower.
"""

import re
from typing import Any

from nucleon.http.fields import Fields, read_fields
from nucleon.http.malformed import Limits, MalformedInput
from nucleon.http.native import begins, number
from nucleon.http.octets import PATH, TARGET, TOKEN

_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_HOSTS: dict[str, tuple[str, str]] = {}
_HOSTS_MAXIMUM = 1024
_ANY_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [^\x00-\x20\x7f]+ HTTP/[0-9]\.[0-9]")
_AUTHORITY = re.compile(
    r"(?:(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})+|\[(?P<six>[0-9A-Fa-f:.]{2,45})\])(?::(?P<port>[0-9]{0,5}))?"
)
_ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*)([^?]*)(?:\?(.*))?")


class RequestHead(Fields):
    """What the head says, checked.

    path: percent-decoded UTF-8. query: as sent, without "?". minor: of HTTP/1.x. fields: lower-case name to value, repeated
    fields joined. content_length: -1 when there is none. keep_alive: the client would like the connection to stay.
    authority: host and port of `host`. size: bytes of the head. patience: the Request-Timeout field. is_for_tls: the target is https.
    """

    __slots__ = (
        "chunked", "content_length", "data", "expects_continue", "is_for_tls", "keep_alive", "method", "minor", "path", "query",
        "size", "target_at", "target_end",
    )  # fmt: skip

    def __init__(self) -> None:
        self.begin({})

    def begin(self, fields: dict[str, Any]) -> None:
        """Set what a head begins with; made without `__init__`, a head costs a third."""
        self.begin_fields(fields)
        self.method = ""
        self.path = "/"
        self.query = ""
        self.minor = 1
        self.content_length = -1
        self.size = 0
        self.chunked = False
        self.keep_alive = True
        self.expects_continue = False
        self.is_for_tls = False
        self.data = b""
        self.target_at = 0
        self.target_end = 0

    @property
    def target(self) -> str:
        """The request target as it was sent."""
        return self.data[self.target_at : self.target_end].decode("ascii")

    def __repr__(self) -> str:
        return f"<RequestHead {self.method} {self.target} HTTP/1.{self.minor}>"


def head_end(data: bytes, start: int, seen: int, limits: Limits) -> int:
    """Return where the head that begins at `start` ends (after its empty line), or -1 for "not yet".

    seen: up to where earlier calls have looked. Raises `MalformedInput` as soon as the head cannot become good.
    """
    end = data.find(b"\r\n\r\n", max(start, seen - 3))
    if end >= 0 and end + 4 - start <= limits.head_bytes:
        return end + 4
    _check_unfinished(data, start, limits, seen)
    if end >= 0 or len(data) - start > limits.head_bytes:
        raise MalformedInput(f"the head is longer than {limits.head_bytes} bytes", 431)
    return -1


def _check_unfinished(data: bytes, start: int, limits: Limits, seen: int) -> None:
    """Refuse early what no further bytes can repair: a first line of another protocol (TLS, say), bare LF, endless lines."""
    if TOKEN[data[start]] == 0:
        raise MalformedInput("the request line does not begin with a method and a space")
    at = data.find(b"\n", max(start, seen - 1))
    while at >= 0:
        if at == start or data[at - 1] != 13:
            raise MalformedInput("a bare LF in the head")
        at = data.find(b"\n", at + 1)
    first_end = data.find(b"\r\n", start)
    if first_end < 0:
        if len(data) - start > limits.request_line_bytes:
            raise _long_line(data, start, limits)
        return
    if first_end - start > limits.request_line_bytes:
        raise _long_line(data, start, limits)
    if _REQUEST_LINE.fullmatch(data, start, first_end) is None:
        raise MalformedInput("the request line is not a method, a target and an HTTP version")
    if len(data) - max(data.rfind(b"\n"), start) > limits.field_bytes + 2:
        raise MalformedInput(f"a field is longer than {limits.field_bytes} bytes", 431)


def skip_empty_line(data: bytes, start: int) -> int:
    """Return `start` after one leading empty line (RFC 9112 2.2); raise for a second one."""
    if data[start : start + 1] != b"\r":
        return start
    if data[start : start + 2] == b"\r\n":
        if data[start + 2 : start + 3] in (b"\r", b"\n"):
            raise MalformedInput("more than one empty line before the request line")
        return start + 2
    if len(data) > start + 1:
        raise MalformedInput("a bare CR before the request line")
    return start


def parse_head(data: bytes, start: int, end: int, limits: Limits, environ: dict[str, Any] | None = None) -> RequestHead:
    """Read the head that begins at `start` and ends, with its empty line, at `end` or before: `data[:end]` ends with CRLF CRLF.

    environ: the fields are added to it, under the names of CGI. Raises `MalformedInput`.
    """
    octets = data
    token = TOKEN
    allowed = TARGET
    allowed_in_path = PATH
    if begins(data, start, b"GET "):
        method = "GET"
        at = start + 3
    else:
        at = start
        while token[octets[at]]:
            at += 1
        word = data[start:at]
        method = _METHODS.get(word) or word.decode("ascii")
    target_at = at + 1
    at = target_at
    marks = 0
    while allowed_in_path[octets[at]]:
        marks |= allowed_in_path[octets[at]]
        at += 1
    path_end = at
    if octets[at] == 63:
        while allowed[octets[at]]:
            at += 1
    is_newer = begins(data, at, b" HTTP/1.1\r\n") or _is_later_version(data, at)
    if target_at == start + 1 or octets[target_at - 1] != 32 or at == target_at or at + 9 - start > limits.request_line_bytes:
        raise _wrong_line(data, start, limits)
    if not is_newer and not begins(data, at, b" HTTP/1.0\r\n"):
        raise _wrong_line(data, start, limits)
    head = RequestHead.__new__(RequestHead)
    head.begin({} if environ is None else environ)
    head.is_environ = environ is not None
    head.method = method
    head.minor = 1 if is_newer else 0
    head.keep_alive = is_newer
    head.data = data
    head.target_at = target_at
    head.target_end = at
    head.size = read_fields(head, data, at + 11, end, limits) - start
    if octets[target_at] == 47:
        path = data[target_at:path_end].decode("ascii")
        head.path = path if marks < 2 else decoded_path(path)
        if at > path_end:
            head.query = data[path_end + 1 : at].decode("ascii")
    else:
        _read_other_target(head)
    _read_semantics(head)
    return head


def _is_later_version(data: bytes, at: int) -> bool:
    """Tell whether a later minor version stands here: it is read as the latest that is known (RFC 9110 2.5)."""
    return begins(data, at, b" HTTP/1.") and data[at + 8 : at + 9] in b"23456789" and begins(data, at + 9, b"\r\n")


def _wrong_line(data: bytes, start: int, limits: Limits) -> MalformedInput:
    """Return what is wrong with the request line."""
    line = data[start : data.find(b"\r\n", start)]
    if len(line) > limits.request_line_bytes:
        return _long_line(data, start, limits)
    method, space, rest = line.partition(b" ")
    if not method or not space or not all(TOKEN[octet] for octet in method):
        return MalformedInput("the request line does not begin with a method and a space")
    target, space, version = rest.partition(b" ")
    if not target or not space or not all(TARGET[octet] for octet in target):
        return MalformedInput("the request target is empty or has forbidden characters")
    if _ANY_VERSION.fullmatch(version):
        return MalformedInput("this HTTP version is not supported", 505)
    return MalformedInput("the request line does not end with an HTTP version")


def _long_line(data: bytes, start: int, limits: Limits) -> MalformedInput:
    """Return what is too long about the request line: its target (414), or the method, which nobody implements then (501)."""
    if b" " not in data[start : start + limits.request_line_bytes]:
        return MalformedInput(f"the method is longer than {limits.request_line_bytes} bytes", 501)
    return MalformedInput(f"the request line is longer than {limits.request_line_bytes} bytes", 414)


def _read_other_target(head: RequestHead) -> None:
    """Read a target that is no path (RFC 9112 3.2); the authority of an absolute one replaces Host."""
    target = head.target
    if head.method == "CONNECT":
        raise MalformedInput("this server opens no tunnels", 501)
    if target == "*" and head.method == "OPTIONS":
        head.path = "*"
        return
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise MalformedInput("the request target has none of the four forms")
    if head.minor == 1 or head.host is not None:
        _check_host(head.host)
    head.is_for_tls = target[4] in "sS"
    head.host = absolute[1]
    head.fields["HTTP_HOST" if head.is_environ else "host"] = head.host
    path, head.query = absolute[2] or "/", absolute[3] or ""
    head.path = decoded_path(path) if "%" in path else path


def decoded_path(path: str) -> str:
    """Return the path with %XX decoded as UTF-8. Raises `MalformedInput` for a broken one and for %00."""
    first, *rest = path.encode("ascii").split(b"%")
    try:
        octets = first + b"".join(_unhex(part[:2]) + part[2:] for part in rest)
        decoded = octets.decode()
    except ValueError:
        raise MalformedInput("the path is not percent-encoded UTF-8") from None
    if "\0" in decoded:
        raise MalformedInput("the path has a NUL")
    return decoded


def _unhex(digits: bytes) -> bytes:
    if len(digits) != 2 or not all(octet in b"0123456789abcdefABCDEF" for octet in digits):
        raise ValueError(digits)
    return bytes.fromhex(digits.decode("ascii"))


def _read_semantics(head: RequestHead) -> None:
    """Read the fields that frame the message and steer the connection (RFC 9112 sections 3.2, 6 and 9)."""
    host = head.host
    if host is not None:
        head.authority = _HOSTS.get(host) or _check_host(host)
    elif head.minor == 1:
        _check_host(None)
    if head.connection is not None:
        options = [option.strip(" \t").lower() for option in head.connection.split(",")]
        head.keep_alive = "close" not in options and (head.minor == 1 or "keep-alive" in options)
    if head.coding is not None:
        _check_coding(head, head.coding, head.length)
        head.chunked = True
    elif head.length is not None:
        head.content_length = number(head.length)
        if head.content_length < 0:
            raise MalformedInput("Content-Length is not a number of at most 18 digits")
    if head.expectation is not None and head.minor == 1:
        members = {member.strip(" \t").lower() for member in head.expectation.split(",")}
        if not members <= {"100-continue", ""}:
            raise MalformedInput("the only expectation that can be met is 100-continue", 417)
        head.expects_continue = "100-continue" in members


def _check_coding(head: RequestHead, coding: str, length: str | None) -> None:
    if length is not None:
        raise MalformedInput("Content-Length together with Transfer-Encoding")
    if head.minor == 0:
        raise MalformedInput("Transfer-Encoding in HTTP/1.0")
    if coding.lower() != "chunked":
        *others, last = (name.strip(" \t").lower() for name in coding.split(","))
        if last != "chunked" or last in others:  # where the body ends cannot be known (RFC 9112 6.3)
            raise MalformedInput("chunked is not the last transfer coding, or not only the last")
        raise MalformedInput("the only transfer coding is chunked", 501)


def _check_host(host: str | None) -> tuple[str, str]:
    """Accept a registered name without sub-delims, IPv4, [IPv6], and a port (RFC 9112 3.2); return both, and remember good ones."""
    if host is None:
        raise MalformedInput("no Host field")
    good = _AUTHORITY.fullmatch(host)
    if good is None or (good["six"] is not None and not _is_ipv6(good["six"])) or int(good["port"] or 0) > 65_535:
        raise MalformedInput("the Host is not valid")
    name, _, port = host.rpartition(":") if host[-1:] != "]" and ":" in host else (host, "", "")
    if len(_HOSTS) < _HOSTS_MAXIMUM and len(host) < 256:
        _HOSTS[host] = (name, port)
    return name, port


def _is_ipv6(address: str) -> bool:
    from ipaddress import AddressValueError, IPv6Address

    try:
        IPv6Address(address)
    except AddressValueError:
        return False
    return True
