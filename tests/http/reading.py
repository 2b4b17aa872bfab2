"""The smallest server: it reads requests out of bytes, for laws, fuzzing and comparison."""

from collections.abc import Iterator
from dataclasses import dataclass

from nucleon.http import ChunkedDecoder, Limits, MalformedInput, RequestHead, head_end, parse_head, skip_empty_line

LIMITS = Limits(request_line_bytes=300, field_bytes=200, fields=6, head_bytes=600, chunk_extension_bytes=20, body_bytes=64)


@dataclass(frozen=True)
class Reading:
    """One request as it was understood."""

    method: str
    target: str
    path: str
    fields: tuple[tuple[str, str], ...]
    body: bytes


class Reader:
    """The smallest server: requests out of bytes, one after another."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.requests: list[Reading] = []
        self.refused: int | None = None
        self.reason = ""
        self.ended = False
        self._data = b""
        self._seen = 0
        self._head: RequestHead | None = None
        self._chunks: ChunkedDecoder | None = None
        self._body = b""

    def receive(self, part: bytes) -> None:
        if self.refused is not None or self.ended:
            return
        self._data += part
        try:
            while self._step():
                pass
        except MalformedInput as wrong:
            self.refused, self.reason = wrong.status_hint, wrong.what

    def _step(self) -> bool:
        if self._head is not None:
            return self._take_body(self._head)
        start = skip_empty_line(self._data, 0)
        if self._data[start:] in (b"", b"\r"):
            return False
        end = head_end(self._data, start, self._seen, self.limits)
        if end < 0:
            self._seen = len(self._data)
            return False
        self._head = parse_head(self._data, start, end, self.limits)
        assert self._head.content_length < 10**18
        if self._head.content_length > self.limits.body_bytes:
            raise MalformedInput("too large", 413)
        self._chunks = ChunkedDecoder(self.limits, end - start) if self._head.chunked else None
        self._data, self._seen, self._body = self._data[end:], 0, b""
        return True

    def _take_body(self, head: RequestHead) -> bool:
        if self._chunks is not None:
            self._body += self._chunks.receive(self._data)
            self._data = b""
            if not self._chunks.done:
                return False
            self._data = self._chunks.rest
        else:
            size = max(0, head.content_length)
            if len(self._data) < size:
                return False
            self._body, self._data = self._data[:size], self._data[size:]
        self.requests.append(Reading(head.method, head.target, head.path, tuple(sorted(head.fields.items())), self._body))
        self._head = self._chunks = None
        self.ended = not head.keep_alive  # what follows on a connection that closes is never read
        return head.keep_alive


def readings(parts: list[bytes], limits: Limits = LIMITS) -> tuple[list[Reading], int | None]:
    reader = Reader(limits)
    for part in parts:
        reader.receive(part)
    return reader.requests, reader.refused


def decided(parts: list[bytes]) -> tuple[list[Reading], bool]:
    """Read the parts and an end to what they left open: how early a hopeless head is refused, and why, may depend on the cuts."""
    requests, refused = readings([*parts, b"\r\n\r\n"])
    return requests, refused is not None


def pieces(data: bytes, places: list[int]) -> Iterator[bytes]:
    ordered = sorted({place % (len(data) + 1) for place in places})
    for start, end in zip([0, *ordered], [*ordered, len(data)], strict=True):
        yield data[start:end]
