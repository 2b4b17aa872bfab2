"""What the peer did wrong, and how much of anything it may send."""

from dataclasses import dataclass


class MalformedInput(Exception):
    """The peer sent something that HTTP/1.1 forbids, or more than is allowed.

    status_hint: the status that says so best. The connection has to be closed: where the next message begins is unknown.
    """

    def __init__(self, what: str, status_hint: int = 400) -> None:
        super().__init__(what)
        self.what = what
        self.status_hint = status_hint


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one request may be, in bytes and counts."""

    request_line_bytes: int = 8192  # RFC 9112 3: at least 8,000 should be supported
    field_bytes: int = 8192  # long cookies and tokens
    fields: int = 100
    head_bytes: int = 65_536  # the sum; trailers are inside the same budget
    chunk_extension_bytes: int = 4096  # of a whole body: nobody uses them, floods do (CVE-2023-39326)
    body_bytes: int = 1_048_576
