"""The head of a request: bytes in, `RequestHead` or `MalformedInput` out (RFC 9112 sections 2, 3, 5 and 6).

Written for the compiler: `head.pxd` gives the loops C types; interpreted it gives the same answers, slower.
"""

import re

from nucleon.http.malformed import Limits, MalformedInput

_TCHAR = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TOKEN = bytes(1 if octet in _TCHAR else 0 for octet in range(256))
"""token = 1*tchar, RFC 9110 5.6.2."""
TARGET = bytes(1 if 0x21 <= octet <= 0x7E and octet != 0x23 else 0 for octet in range(256))
"""Visible ASCII; "#" never belongs into a request target."""
VALUE = bytes(1 if octet == 9 or 0x20 <= octet <= 0x7E or octet >= 0x80 else 0 for octet in range(256))
"""VCHAR, SP, HTAB, obs-text: RFC 9110 5.5."""

_SINGLE = frozenset({"host", "content-length", "content-type", "transfer-encoding", "authorization", "expect"})
_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_VERSIONS = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
_NAMES: dict[bytes, str] = {}
_NAMES_MAXIMUM = 512
_HOSTS: dict[str, bool] = {}
_HOSTS_MAXIMUM = 1024
_DIGITS = re.compile("[0-9]{1,18}")
_ANY_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [^\x00-\x20\x7f]+ HTTP/[0-9]\.[0-9]")
_AUTHORITY = re.compile(
    r"(?:(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})+|\[(?P<six>[0-9A-Fa-f:.]{2,45})\])(?::(?P<port>[0-9]{0,5}))?"
)
_ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*)([^?]*)(?:\?(.*))?")


class RequestHead:
    """What the head says, checked.

    path: percent-decoded UTF-8. query: as sent, without "?". minor: of HTTP/1.x. fields: lower-case name to value, repeated
    fields joined. content_length: -1 when there is none. keep_alive: the client would like the connection to stay.
    """

    __slots__ = ("chunked", "content_length", "expects_continue", "fields", "keep_alive", "method", "minor", "path", "query", "target")

    def __init__(self, method: str, target: str, minor: int, fields: dict[str, str]) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.fields = fields
        self.path = "/"
        self.query = ""
        self.content_length = -1
        self.chunked = False
        self.keep_alive = minor == 1
        self.expects_continue = False

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
            raise MalformedInput(f"the request line is longer than {limits.request_line_bytes} bytes", 414)
        return
    if first_end - start > limits.request_line_bytes:
        raise MalformedInput(f"the request line is longer than {limits.request_line_bytes} bytes", 414)
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


def parse_head(data: bytes, start: int, end: int, limits: Limits) -> RequestHead:
    """Read `data[start:end]`, a head with its empty line as found by `head_end`. Raises `MalformedInput`."""
    octets = data
    token = TOKEN
    allowed = TARGET
    line_end = data.find(b"\r\n", start)
    if line_end - start > limits.request_line_bytes:
        raise MalformedInput(f"the request line is longer than {limits.request_line_bytes} bytes", 414)
    at = start
    while token[octets[at]]:
        at += 1
    if at == start or octets[at] != 32:
        raise MalformedInput("the request line does not begin with a method and a space")
    word = data[start:at]
    method = _METHODS.get(word)
    if method is None:
        method = word.decode("ascii")
    target_at = at = at + 1
    while allowed[octets[at]]:
        at += 1
    if at == target_at or octets[at] != 32:
        raise MalformedInput("the request target is empty or has forbidden characters")
    target = data[target_at:at].decode("ascii")
    version = data[at + 1 : line_end]
    minor = _VERSIONS.get(version)
    if minor is None:
        raise _wrong_version(version)
    head = RequestHead(method, target, minor, parse_fields(data, line_end + 2, end, limits))
    _read_target(head)
    _read_semantics(head)
    return head


def parse_fields(data: bytes, start: int, end: int, limits: Limits) -> dict[str, str]:
    """Read field lines up to and with their empty line: `data[start:end]` ends with CRLF CRLF, or is CRLF alone.

    Names with "_" and `Proxy` are dropped: CGI's naming would let them shadow others (CVE-2016-1000110).
    """
    octets = data
    token = TOKEN
    allowed = VALUE
    longest = limits.field_bytes
    most = limits.fields
    fields: dict[str, str] = {}
    count = 0
    at = start
    while octets[at] != 13:
        begin = at
        while token[octets[at]]:
            at += 1
        if at == begin or octets[at] != 58:
            raise MalformedInput("a field line does not begin with a name and a colon")
        word = data[begin:at]
        name = _NAMES.get(word)
        if name is None:
            name = _name_from(word)
        at += 1
        while octets[at] == 32 or octets[at] == 9:
            at += 1
        value_at = at
        while allowed[octets[at]]:
            at += 1
        if octets[at] != 13 or octets[at + 1] != 10:
            raise MalformedInput("a field value has forbidden characters")
        value_end = at
        while value_end > value_at and (octets[value_end - 1] == 32 or octets[value_end - 1] == 9):
            value_end -= 1
        at += 2
        count += 1
        if at - begin - 2 > longest or count > most:
            raise MalformedInput("too many fields, or one is too long", 431)
        if name:
            value = data[value_at:value_end].decode("latin-1")
            fields[name] = _joined(name, fields[name], value) if name in fields else value
    if octets[at + 1] != 10 or at + 2 != end:
        raise MalformedInput("a bare CR in the head")
    return fields


def _name_from(word: bytes) -> str:
    """Return the lower-case name ("" for one to drop), and remember it while there is room."""
    name = word.decode("ascii").lower()
    if "_" in name or name == "proxy":
        name = ""
    if len(_NAMES) < _NAMES_MAXIMUM and len(word) < 64:
        _NAMES[word] = name
    return name


def _joined(name: str, before: str, value: str) -> str:
    """Join a repeated field (RFC 9110 5.3; cookies RFC 6265 5.4)."""
    if name in _SINGLE:
        raise MalformedInput(f"more than one {name} field")
    return f"{before}; {value}" if name == "cookie" else f"{before}, {value}"


def _wrong_version(version: bytes) -> MalformedInput:
    if _ANY_VERSION.fullmatch(version):
        return MalformedInput("this HTTP version is not supported", 505)
    return MalformedInput("the request line does not end with an HTTP version")


def _read_target(head: RequestHead) -> None:
    """Split the target (RFC 9112 3.2); the authority of an absolute one replaces Host."""
    target = head.target
    if target[0] == "/":
        path, _, head.query = target.partition("?")
    elif head.method == "CONNECT":
        raise MalformedInput("this server opens no tunnels", 501)
    elif target == "*" and head.method == "OPTIONS":
        head.path = "*"
        return
    else:
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise MalformedInput("the request target has none of the four forms")
        if head.minor == 1 or "host" in head.fields:
            _check_host(head.fields.get("host"))
        head.fields["host"] = absolute[1]
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
    fields = head.fields
    host = fields.get("host")
    if host not in _HOSTS and (host is not None or head.minor == 1):
        _check_host(host)
    connection = fields.get("connection")
    if connection is not None:
        options = [option.strip(" \t").lower() for option in connection.split(",")]
        head.keep_alive = "close" not in options and (head.minor == 1 or "keep-alive" in options)
    length = fields.get("content-length")
    coding = fields.get("transfer-encoding")
    if coding is not None:
        _check_coding(head, coding, length)
        head.chunked = True
    elif length is not None:
        if _DIGITS.fullmatch(length) is None:
            raise MalformedInput("Content-Length is not a number of at most 18 digits")
        head.content_length = int(length)
    expectation = fields.get("expect")
    if expectation is not None and head.minor == 1:
        if expectation.lower() != "100-continue":
            raise MalformedInput("the only expectation that can be met is 100-continue", 417)
        head.expects_continue = True


def _check_coding(head: RequestHead, coding: str, length: str | None) -> None:
    if length is not None:
        raise MalformedInput("Content-Length together with Transfer-Encoding")
    if head.minor == 0:
        raise MalformedInput("Transfer-Encoding in HTTP/1.0")
    if coding.lower() != "chunked":
        raise MalformedInput("the only transfer coding is chunked", 501)


def _check_host(host: str | None) -> None:
    """Accept a registered name without sub-delims, IPv4, [IPv6], and a port (RFC 9112 3.2); remember good ones."""
    if host is None:
        raise MalformedInput("no Host field")
    good = _AUTHORITY.fullmatch(host)
    if good is None or (good["six"] is not None and not _is_ipv6(good["six"])) or int(good["port"] or 0) > 65_535:
        raise MalformedInput("the Host is not valid")
    if len(_HOSTS) < _HOSTS_MAXIMUM and len(host) < 256:
        _HOSTS[host] = True


def _is_ipv6(address: str) -> bool:
    from ipaddress import AddressValueError, IPv6Address

    try:
        IPv6Address(address)
    except AddressValueError:
        return False
    return True
