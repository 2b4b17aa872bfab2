"""One response, as the application gives it."""

from collections.abc import Callable, Iterable, Iterator


class Response:
    """Status, header fields and a body.

    body: bytes (or str, sent as UTF-8), or an iterable of bytes that is streamed.
    headers: name to value, or pairs where a name repeats. Content-Length and framing are the server's business.
    on_close: called exactly once after the last byte was sent, or when the client has gone.
    """

    __slots__ = ("body", "headers", "on_close", "status")

    def __init__(
        self,
        body: bytes | str | Iterable[bytes] = b"",
        status: int = 200,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        *,
        content_type: str | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.body: bytes | Iterable[bytes] = body.encode() if isinstance(body, str) else body
        self.status = status
        self.headers: list[tuple[str, str]] = list(headers.items()) if isinstance(headers, dict) else list(headers or ())
        if content_type is not None:
            self.headers.append(("Content-Type", content_type))
        self.on_close = on_close

    def begin_with(self, body: bytes, status: int, headers: list[tuple[str, str]]) -> None:
        """Set what a plain response consists of; made without `__init__`, it costs a third. The list is kept, not copied."""
        self.body = body
        self.status = status
        self.headers = headers
        self.on_close = None

    def needs_closing(self) -> bool:
        """Tell whether `close` has anything to do."""
        return self.on_close is not None or not isinstance(self.body, bytes)

    def header(self, name: str) -> str | None:
        """Return the first value of a header field, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body piece by piece."""
        if isinstance(self.body, bytes):
            yield self.body
        else:
            yield from self.body

    def close(self) -> None:
        """Close a streamed body and call `on_close`; a second call does nothing."""
        on_close, self.on_close = self.on_close, None
        try:
            close = getattr(self.body, "close", None)
            if close is not None:
                close()
        finally:
            if on_close is not None:
                on_close()

    def __repr__(self) -> str:
        size = f"{len(self.body)} bytes" if isinstance(self.body, bytes) else "a stream"
        return f"<Response {self.status} with {size}>"
