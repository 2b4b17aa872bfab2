"""One answer, as a test reads it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any


class Answer:
    """Status, header fields and body of a response; a stream is read when the test asks for it.

    headers: case-insensitive; a repeated field is joined with ", " (`header_list` has every line).
    """

    def __init__(self, status: int, headers: Iterable[tuple[str, str]], pieces: Iterable[bytes], close: Callable[[], None]) -> None:
        self.status = status
        self.header_list = list(headers)
        self.headers = Fields(self.header_list)
        self._pieces = iter(pieces)
        self._close = close

    @cached_property
    def body(self) -> bytes:
        """The whole body; reading it ends a stream."""
        try:
            return b"".join(self._pieces)
        finally:
            self.close()

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON, whatever its content type says. Raises `ValueError`."""
        return json.loads(self.body)

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document (RFC 9457). Raises `AssertionError` when the answer is none."""
        content_type = self.headers.get("content-type", "")
        is_problem = content_type.startswith("application/problem+json")
        assert is_problem, f"{self!r} is {content_type or 'untyped'}, not a problem: {self.body[:500]!r}"
        document: dict[str, Any] = self.json()
        assert document.get("status", self.status) == self.status, f"the problem says {document['status']}, the answer {self.status}"
        return document

    def pieces(self) -> Iterator[bytes]:
        """Yield what a stream sends, piece by piece, as it comes."""
        yield from self._pieces

    def lines(self) -> Iterator[str]:
        """Yield a stream's lines (NDJSON, SSE) as they come, without their ends."""
        rest = b""
        for piece in self._pieces:
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line.removesuffix(b"\r").decode()
        if rest:
            yield rest.decode()

    def close(self) -> None:
        """Leave, as a client that hangs up; nothing happens when the body was read to its end."""
        self._close()

    def __enter__(self) -> "Answer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Answer {self.status}>"


class Fields(Mapping[str, str]):
    """Header fields by case-insensitive name."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            self._values[key] = f"{self._values[key]}, {value}" if key in self._values else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)
