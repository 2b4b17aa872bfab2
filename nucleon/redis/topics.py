"""Typed channels: `chat = cache.topic(Entry, "chat:{room}")`; values are JSON on the wire."""

from typing import Any, Generic, TypeVar

import msgspec

from nucleon.redis.hub import Hub
from nucleon.redis.kinds import check_kind
from nucleon.redis.patterns import ESCAPED, KeyPattern
from nucleon.redis.subscriptions import Overflow, Subscription

T = TypeVar("T")

GLOB = str.maketrans({character: f"\\{character}" for character in "*?[]^\\"})


class Topic(Generic[T]):
    """Channels made from a pattern, that carry values of one type. A message that is no such value is logged and left out."""

    def __init__(self, hub: Hub, kind: type[T], channel: str) -> None:
        self._hub = hub
        self._pattern = KeyPattern(channel, "topic")
        check_kind(f"topic {channel!r}", kind)
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(kind).decode

    def publish(self, value: T, /, **key: object) -> int:
        """Publish to the channel of this key; return how many connections received it. Raises `Unavailable`, `DeadlineExceeded`."""
        return self._hub.publish(self._pattern.filled(key), self._encode(value))

    def subscribe(
        self, *, maximum: int = 1000, maximum_bytes: int = 16_777_216, overflow: Overflow = "drop_oldest", **key: Any
    ) -> Subscription[T]:
        """Subscribe to the channel of this key, or to all that fit when some of its fields are left out. As `Hub.subscribe`."""
        missing = self._pattern.fields - key.keys()
        if missing:
            name = ("pattern", self._globbed(key))
        else:
            name = ("channel", self._pattern.filled(key))
        decode = self._decode
        return self._hub.join(
            [name], lambda message: decode(message.data), maximum=maximum, maximum_bytes=maximum_bytes, overflow=overflow
        )

    def _globbed(self, key: dict[str, Any]) -> str:
        unknown = key.keys() - self._pattern.fields
        if unknown:
            raise TypeError(f"{self._pattern.text!r} takes {sorted(self._pattern.fields)}, not {sorted(unknown)}")
        values = {name: str(key[name]).translate(ESCAPED).translate(GLOB) if name in key else "*" for name in self._pattern.fields}
        return self._pattern.text.format_map(values)

    def __repr__(self) -> str:
        return f"<Topic {self._pattern.text!r}>"
