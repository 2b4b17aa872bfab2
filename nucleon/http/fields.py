"""Field lines: bytes in, a dictionary out (RFC 9110 section 5, RFC 9112 section 5).

Written for the compiler: `fields.pxd` gives the loops C types; interpreted it gives the same answers, slower.
"""

from typing import Any

from nucleon.http.malformed import Limits, MalformedInput
from nucleon.http.native import begins
from nucleon.http.octets import TOKEN, VALUE

_SINGLE = frozenset({"host", "content-length", "content-type", "transfer-encoding", "authorization", "expect"})
_KINDS = {"host": 1, "connection": 2, "content-length": 3, "transfer-encoding": 4, "expect": 5, "request-timeout": 6}
_VARIABLES = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
_NAMES: dict[bytes, "FieldName"] = {}
_NAMES_MAXIMUM = 512


class FieldName:
    """A spelling of a field name that was seen, and what is known about it.

    name: lower-case, "" for one to drop. variable: of CGI (RFC 3875 4.1.18). kind: which field of `Fields` it fills.
    following: the name that came after it last time. Clients send their fields in one order, so it is tried first.
    """

    __slots__ = ("following", "is_kept", "kind", "name", "size", "variable", "word")

    def __init__(self, word: bytes) -> None:
        name = word.decode("ascii").lower()
        if "_" in name or name == "proxy":
            name = ""
        self.word = word
        self.size = len(word)
        self.name = name
        self.variable = _VARIABLES.get(name) or "HTTP_" + name.replace("-", "_").upper()
        self.kind = _KINDS.get(name, 0)
        self.following: FieldName | None = None
        self.is_kept = False


_FIRST = FieldName(b"-")


class Fields:
    """What field lines said. fields: lower-case name, or the variable of CGI when `is_environ`, to value; repeated ones joined."""

    __slots__ = ("authority", "coding", "connection", "expectation", "fields", "host", "is_environ", "length", "patience")

    def __init__(self) -> None:
        self.begin_fields({})

    def begin_fields(self, fields: dict[str, Any]) -> None:
        """Nothing has been read yet; what is read will be put into `fields`."""
        self.fields: dict[str, Any] = fields
        self.is_environ = False
        self.authority: tuple[str, str] | None = None
        self.host: str | None = None
        self.connection: str | None = None
        self.length: str | None = None
        self.coding: str | None = None
        self.expectation: str | None = None
        self.patience: str | None = None

    def take(self, kind: int, value: str) -> None:
        """Keep a field that steers the message or the connection."""
        if kind == 1:
            self.host = value
        elif kind == 2:
            self.connection = value
        elif kind == 3:
            self.length = value
        elif kind == 4:
            self.coding = value
        elif kind == 5:
            self.expectation = value
        else:
            self.patience = value


def read_fields(into: Fields, data: bytes, at: int, end: int, limits: Limits) -> int:
    """Read field lines from `at` through their empty line, and return where that ends. `data[:end]` has to end with CRLF CRLF.

    Names with "_" and `Proxy` are dropped: CGI's naming would let them shadow others (CVE-2016-1000110).
    """
    octets = data
    token = TOKEN
    allowed = VALUE
    longest = limits.field_bytes
    most = limits.fields
    fields = into.fields
    is_environ = into.is_environ
    before = _FIRST
    count = 0
    while octets[at] != 13:
        begin = at
        found = before.following
        if found is not None and found.size < end - at and octets[at + found.size] == 58 and begins(data, at, found.word):
            at += found.size
        else:
            while token[octets[at]]:
                at += 1
            if at == begin or octets[at] != 58:
                raise MalformedInput("a field line does not begin with a name and a colon")
            found = _field_name(data[begin:at])
            if found.is_kept:
                before.following = found
        before = found
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
        if found.name:
            key = found.variable if is_environ else found.name
            value = data[value_at:value_end].decode("latin-1")
            size = len(fields)
            fields.setdefault(key, value)
            if len(fields) == size:
                value = _joined(found.name, fields[key], value)
                fields[key] = value
            if found.kind:
                into.take(found.kind, value)
    if octets[at + 1] != 10 or at + 2 > end:
        raise MalformedInput("a bare CR in the head")
    return at + 2


def parse_fields(data: bytes, start: int, end: int, limits: Limits) -> dict[str, str]:
    """Return the fields of `data[start:end]`, which ends with CRLF CRLF or is CRLF alone. Raises `MalformedInput`."""
    into = Fields()
    if read_fields(into, data, start, end, limits) != end:
        raise MalformedInput("an empty line among the fields")
    return into.fields


def _field_name(word: bytes) -> FieldName:
    """Return what is known about a name, and remember it while there is room."""
    known = _NAMES.get(word)
    if known is None:
        known = FieldName(word)
        if len(_NAMES) < _NAMES_MAXIMUM and known.size < 64:
            known.is_kept = True
            _NAMES[word] = known
    return known


def _joined(name: str, before: str, value: str) -> str:
    """Join a repeated field (RFC 9110 5.3; cookies RFC 6265 5.4)."""
    if name in _SINGLE:
        raise MalformedInput(f"more than one {name} field")
    return f"{before}; {value}" if name == "cookie" else f"{before}, {value}"
