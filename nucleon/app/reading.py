"""Routes that only read: `read_only=True` lets resources ask replicas."""

from collections.abc import Callable, Iterator
from typing import Any

from nucleon.hooks import reads_only
from nucleon.message import Request, Response


def reading_only(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Return a route's answer that is known to read only, its stream too."""

    def answer_reading(request: Request) -> Response:
        token = reads_only.set(True)
        try:
            response = answer(request)
        finally:
            reads_only.reset(token)
        if not isinstance(response.body, bytes):
            response.body = Reading(response.body)
        return response

    return answer_reading


class Reading:
    """A streamed body that only reads."""

    __slots__ = ("_chunks", "_iterator")

    def __init__(self, chunks: Any) -> None:
        self._chunks = chunks
        self._iterator = iter(chunks)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = reads_only.set(True)
        try:
            chunk: bytes = next(self._iterator)
            return chunk
        finally:
            reads_only.reset(token)

    def close(self) -> None:
        """Close the stream."""
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()
