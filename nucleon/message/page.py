"""One page of a collection by keyset cursor, and the answer to a creation."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from nucleon.errors import Invalid
from nucleon.message.model import Max, Min, Model

T = TypeVar("T")
K = TypeVar("K")


class PageQuery(Model):
    """Which page the client wants: `limit` items after `cursor` (a cursor is opaque to clients)."""

    limit: Annotated[int, Min(1), Max(1000)] = 50
    cursor: str | None = None

    @property
    def fetch(self) -> int:
        """How many rows to select: one more than a page, which tells whether another page follows."""
        return self.limit + 1

    def after(self, kind: type[K], first: K) -> K:
        """Return the key behind which this page begins: from the cursor, else `first`. A broken cursor is a 422."""
        if self.cursor is None:
            return first
        try:
            text = base64.urlsafe_b64decode(self.cursor + "=" * (-len(self.cursor) % 4))
            return msgspec.json.decode(text, type=kind)
        except (binascii.Error, msgspec.DecodeError, ValueError):
            fault = {"location": "query", "pointer": "/cursor", "message": "Not a cursor of this collection"}
            raise Invalid("the request has faults", errors=[fault]) from None


def cursor_from(key: Any) -> str:
    """Return the opaque cursor for a key (a JSON value: a number, a string, a list of them)."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode()


class Page(Generic[T]):
    """One page: its items, and the cursor of the next page (None: this is the last).

    Answers as `{"items": [...], "next": "..."}` with a `Link: <...>; rel="next"` header field (RFC 8288).
    """

    __slots__ = ("items", "next")

    def __init__(self, items: Sequence[T], next: str | None = None) -> None:
        self.items = items
        self.next = next

    @classmethod
    def of(cls, rows: Sequence[T], query: PageQuery, key: Callable[[T], Any]) -> "Page[T]":
        """Make a page of rows that were selected with `query.fetch` as limit, in the order of `key`."""
        items = rows[: query.limit]
        return cls(items, cursor_from(key(items[-1])) if len(rows) > query.limit else None)


class Created(Generic[T]):
    """A new thing: 201 with its representation, and `Location` from the route that reads it (or as given)."""

    __slots__ = ("location", "value")

    def __init__(self, value: T, location: str | None = None) -> None:
        self.value = value
        self.location = location
