"""Typed streams: `orders = cache.stream(OrderPlaced, "orders")`; consumers in groups are in `groups`."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

from nucleon.redis.groups import FIELD, Group, entries_from
from nucleon.redis.kinds import check_kind
from nucleon.redis.measures import check_counts
from nucleon.redis.scripts import Commands

T = TypeVar("T")


class Stream(Generic[T]):
    """Values of one type in a Redis stream, as JSON in the field `v`.

    maximum_length: older entries are trimmed beyond (approximately, as XADD's `MAXLEN ~`): the bound of its memory, and of how far a group
    may fall behind before it misses entries.
    """

    def __init__(self, commands: Commands, kind: type[T], key: str, *, maximum_length: int = 100_000) -> None:
        check_counts(f"stream {key!r}", maximum_length=maximum_length)
        check_kind(f"stream {key!r}", kind)
        self._commands = commands
        self.key = key
        self.maximum_length = maximum_length
        self._encode = msgspec.json.Encoder().encode
        self.decode: Callable[[bytes], T] = msgspec.json.Decoder(kind).decode
        self.added = 0

    def add(self, value: T) -> str:
        """Append a value and return its id. Raises `Unavailable` (it may have been appended), `DeadlineExceeded`."""
        data = self._encode(value)
        id: bytes = self._commands.execute_command(
            "XADD", self.key, "MAXLEN", "~", self.maximum_length, "*", FIELD, data, NEVER_DECODE=True
        )
        self.added += 1
        return id.decode()

    def trim(self, maximum_length: int) -> int:
        """Drop the oldest entries beyond a length; return how many."""
        return int(self._commands.execute_command("XTRIM", self.key, "MAXLEN", maximum_length))

    def length(self) -> int:
        """Return how many entries there are."""
        return int(self._commands.execute_command("XLEN", self.key))

    def read(self, after: str = "0", count: int = 100) -> Iterator[tuple[str, T]]:
        """Yield ids and values after an id, oldest first, without any group; `count` are asked for at a time.

        Raises `msgspec.DecodeError` for a foreign value.
        """
        check_counts(f"stream {self.key!r}", count=count)
        while True:
            reply = self._commands.execute_command("XRANGE", self.key, f"({after}", "+", "COUNT", count, NEVER_DECODE=True)
            entries = entries_from(reply)
            for id, fields in entries:
                yield id, self.decode(fields.get(FIELD.encode(), b""))
            if len(entries) < count:
                return
            after = entries[-1][0]

    def group(self, name: str, **options: Any) -> Group[T]:
        """Return a consumer group; each entry goes to one of its consumers. options: see `Group`."""
        return Group(self._commands, self.key, name, self.decode, **options)

    def __repr__(self) -> str:
        return f"<Stream {self.key!r} of at most {self.maximum_length}: {self.added} added here>"
