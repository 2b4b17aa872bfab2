"""One request, as the application sees it."""

import os
import secrets
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Protocol

from nucleon.errors import ContentTooLarge, PreconditionFailed
from nucleon.http.native import number

_PROCESS = secrets.token_hex(4)
_NUMBERS = count(1)


def _take_another_name() -> None:
    global _PROCESS
    _PROCESS = secrets.token_hex(4)


os.register_at_fork(after_in_child=_take_another_name)  # workers count alike: their ids differ in the first part only


def identity_from(given: str) -> str:
    """Return what a client has given as the id of its request when that is a plain token of at most 64 characters, else a new one."""
    plain = 0 < len(given) <= 64 and given.replace("-", "").replace("_", "").isalnum() and given.isascii()
    return given if plain else f"{_PROCESS}-{next(_NUMBERS):x}"


class BodyReader(Protocol):
    """Where the body comes from: `read(n)` returns up to n bytes, b"" at the end; raises a `Problem` (400, 408, 413) for a broken one."""

    def read(self, size: int = -1, /) -> bytes: ...


class Headers(Mapping[str, str]):
    """Request header fields: case-insensitive names, repeated fields joined with ", " (RFC 9110 5.3)."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str]) -> None:
        """fields: lower-case name to value; the mapping is kept, not copied."""
        self._fields = fields

    def lower_case(self) -> dict[str, str]:
        """Return the fields as a dictionary with lower-case names."""
        return self._fields if isinstance(self._fields, dict) else dict(self._fields)

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field's value, or the default; faster than the one of Mapping, which raises and catches."""
        return self._fields.get(name.lower(), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


class Request:
    """A request whose head is complete; its body is read when somebody asks for it.

    method: upper-case token. path: percent-decoded UTF-8, begins with "/". query_string: as sent, without "?".
    scheme: "http" or "https". client: address of the peer (or, behind a trusted proxy, of its client).
    deadline_at: instant of `time.monotonic()`, or None. params: path parameters as strings, set by the router.
    fields: the header fields by lower-case name; `headers` finds them in any case.
    """

    __slots__ = (
        "_body", "_headers", "_id", "_state", "body_reader", "client", "deadline_at", "fields", "method",
        "params", "path", "query_string", "route", "scheme", "version",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        path: str,
        query_string: str = "",
        headers: Headers | None = None,
        body_reader: BodyReader | None = None,
        *,
        scheme: str = "http",
        client: str = "",
        version: str = "HTTP/1.1",
        deadline_at: float | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.fields: dict[str, str] = {} if headers is None else headers.lower_case()
        self.body_reader = body_reader
        self.scheme = scheme
        self.client = client
        self.version = version
        self.deadline_at = deadline_at
        self.begin()

    def begin(self) -> None:
        """Set what a request that nobody has seen yet begins with; the server makes requests without `__init__`."""
        self.route: str | None = None
        self.params: dict[str, str] = {}
        self._headers: Headers | None = None
        self._state: dict[str, Any] | None = None
        self._id: str | None = None
        self._body: bytes | None = None

    @property
    def headers(self) -> Headers:
        """The header fields."""
        if self._headers is None:
            self._headers = Headers(self.fields)
        return self._headers

    @headers.setter
    def headers(self, headers: Headers) -> None:
        self._headers = headers
        self.fields = headers.lower_case()

    @property
    def state(self) -> dict[str, Any]:
        """Free for hooks."""
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def id(self) -> str:
        """The request id: `X-Request-Id` when it is a plain token of at most 64 characters, else one of our own."""
        if self._id is None:
            self._id = identity_from(self.fields.get("x-request-id", ""))
        return self._id

    def body(self, limit_bytes: int | None = None) -> bytes:
        """Read the whole body (once; later calls return it again). Raises a `Problem` when it is broken, late or too large.

        limit_bytes: a body that is larger raises `ContentTooLarge`, before reading when its Content-Length says so.
        """
        if self._body is None:
            if self.body_reader is None:
                self._body = b""
            elif limit_bytes is None:
                self._body = self.body_reader.read()
            else:
                self._body = self._read_at_most(self.body_reader, limit_bytes)
        return self._body

    def _read_at_most(self, reader: BodyReader, limit_bytes: int) -> bytes:
        length = number(self.fields.get("content-length", ""))
        if length >= 0:
            data = reader.read() if length <= limit_bytes else None
            if data is None or len(data) > limit_bytes:
                raise ContentTooLarge(f"the body is larger than {limit_bytes} bytes")
            return data
        taken: list[bytes] = []
        size = 0
        while size <= limit_bytes:
            piece = reader.read(limit_bytes + 1 - size)
            if not piece:
                return b"".join(taken)
            taken.append(piece)
            size += len(piece)
        raise ContentTooLarge(f"the body is larger than {limit_bytes} bytes")

    def expected_versions(self) -> list[str] | None:
        """Return the versions that If-Match names (RFC 9110 section 13.1.1), None when any will do. A weak tag names none."""
        given = self.headers.get("if-match")
        if given is None or given.strip() == "*":
            return None
        return [tag[1:-1] for tag in (part.strip() for part in given.split(",")) if len(tag) > 1 and tag[0] == tag[-1] == '"']

    def expect_version(self, version: int | str) -> None:
        """Raise `PreconditionFailed` when the client's If-Match does not name this version (RFC 9110 section 13.1.1).

        Call it inside the transaction that read the version and will write the next one.
        """
        versions = self.expected_versions()
        if versions is not None and str(version) not in versions:
            raise PreconditionFailed("it has changed since you read it", headers={"ETag": f'"{version}"'})

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path} from {self.client or 'nowhere'}>"
