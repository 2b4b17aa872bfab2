"""A typed cache over Redis: JSON values, expiry, and one load for many equal misses."""

from collections.abc import Callable
from contextlib import suppress
from string import Formatter
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from nucleon import green
from nucleon.errors import DeadlineExceeded, SetupError, Unavailable

T = TypeVar("T")

INVALIDATED = b""
"""What stands in place of an invalidated value for a moment, so that a load which began before cannot store what it read."""


class Commands(Protocol):
    """What the cache needs of a client."""

    def execute_command(self, *args: Any, **options: Any) -> Any: ...


class _Flight(Generic[T]):
    """One load under way, and those who wait for it."""

    __slots__ = ("error", "landed", "value")

    def __init__(self) -> None:
        self.landed = green.Event()
        self.value: tuple[T] | None = None
        self.error: Exception | None = None


class Cache(Generic[T]):
    """Values of one type under keys made from a pattern.

    kind: a `Model`, a dataclass or whatever msgspec encodes. key: a pattern such as `"item:{id}"`; its fields are the keyword
    arguments of every method. A value that no longer fits the type (an older release wrote it) counts as a miss.
    """

    GRACE_SECONDS = 2.0  # how long an invalidation keeps loads from storing: longer than a load should take

    def __init__(self, commands: Commands, kind: type[T], key: str, *, ttl_seconds: float) -> None:
        if ttl_seconds <= 0:
            raise SetupError(f"cache {key!r}: ttl_seconds must be more than 0, not {ttl_seconds}")
        self._commands = commands
        self._pattern = key
        self._fields = frozenset(name for _, name, _, _ in Formatter().parse(key) if name is not None)
        if not all(name.isidentifier() for name in self._fields):
            raise SetupError(f"cache {key!r}: its fields must be plain names, such as 'item:{{id}}'")
        self._ttl_milliseconds = max(1, round(ttl_seconds * 1000))
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(kind)
        self._flights: dict[str, _Flight[T]] = {}
        self.hits = self.misses = 0

    def key(self, **key: object) -> str:
        """Return the Redis key; ":" and "%" in values are escaped, so that different values never share a key."""
        if key.keys() != self._fields:
            raise TypeError(f"cache {self._pattern!r} takes {sorted(self._fields)}, not {sorted(key)}")
        return self._pattern.format_map({name: str(value).replace("%", "%25").replace(":", "%3A") for name, value in key.items()})

    def get(self, **key: object) -> T | None:
        """Return the value, or None when there is none."""
        found = self._read(self.key(**key))
        return None if found is None else found[0]

    def put(self, value: T, /, **key: object) -> None:
        """Store the value for `ttl_seconds`."""
        place = self.key(**key)
        self._flights.pop(place, None)
        self._commands.execute_command("SET", place, self._encoder.encode(value), "PX", self._ttl_milliseconds)

    def invalidate(self, **key: object) -> None:
        """Forget the value. Call it after the transaction that changed the source has committed."""
        place = self.key(**key)
        self._flights.pop(place, None)
        self._commands.execute_command("SET", place, INVALIDATED, "PX", round(self.GRACE_SECONDS * 1000))

    def get_or(self, load: Callable[..., T], /, **key: object) -> T:
        """Return the value, or what `load(**key)` returns, which is stored then.

        Equal misses of one worker at the same time load once: the others wait, each until its own deadline, and share the value or the
        error. When the loader is killed or out of time, the next in line loads.
        """
        place = self.key(**key)
        while True:
            found = self._read(place)
            if found is not None:
                return found[0]
            flight = self._flights.get(place)
            if flight is None:
                return self._load(place, lambda: load(**key))
            flight.landed.wait()
            if flight.value is not None:
                return flight.value[0]
            if flight.error is not None:
                raise flight.error

    def _load(self, place: str, load: Callable[[], T]) -> T:
        flight: _Flight[T] = _Flight()
        self._flights[place] = flight
        try:
            value = load()
            flight.value = (value,)
            with suppress(Unavailable):  # the value is good, though the next one has to load it again
                self._commands.execute_command("SET", place, self._encoder.encode(value), "PX", self._ttl_milliseconds, "NX")
            return value
        except DeadlineExceeded:
            raise  # ours, not theirs
        except Exception as error:
            flight.error = error
            raise
        finally:
            if self._flights.get(place) is flight:
                del self._flights[place]
            flight.landed.set()

    def _read(self, place: str) -> tuple[T] | None:
        data = self._commands.execute_command("GET", place, NEVER_DECODE=True)
        if data:
            try:
                value = self._decoder.decode(data)
            except msgspec.DecodeError:
                self._commands.execute_command("DEL", place)
            else:
                self.hits += 1
                return (value,)
        self.misses += 1
        return None

    def __repr__(self) -> str:
        seconds, loading = self._ttl_milliseconds / 1000, len(self._flights)
        return f"<Cache {self._pattern!r} for {seconds:g} s: {self.hits} hits, {self.misses} misses, {loading} loading>"
