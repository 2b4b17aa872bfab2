"""What the peer did wrong, and how much of anything it may send."""


class MalformedInput(Exception):
    """The peer sent something that HTTP/1.1 forbids, or more than is allowed.

    status_hint: the status that says so best. The connection has to be closed: where the next message begins is unknown.
    """

    def __init__(self, what: str, status_hint: int = 400) -> None:
        super().__init__(what)
        self.what = what
        self.status_hint = status_hint


class Limits:
    """The most that one request may be, in bytes and counts.

    request_line_bytes: at least 8,000 should be supported (RFC 9112 3). field_bytes: long cookies and tokens. head_bytes: the sum;
    trailers are inside the same budget. chunk_extension_bytes: of a whole body: nobody uses them, floods do (CVE-2023-39326).
    """

    __slots__ = ("body_bytes", "chunk_extension_bytes", "field_bytes", "fields", "head_bytes", "request_line_bytes")

    def __init__(
        self,
        *,
        request_line_bytes: int = 8192,
        field_bytes: int = 8192,
        fields: int = 100,
        head_bytes: int = 65_536,
        chunk_extension_bytes: int = 4096,
        body_bytes: int = 1_048_576,
    ) -> None:
        self.request_line_bytes = request_line_bytes
        self.field_bytes = field_bytes
        self.fields = fields
        self.head_bytes = head_bytes
        self.chunk_extension_bytes = chunk_extension_bytes
        self.body_bytes = body_bytes
