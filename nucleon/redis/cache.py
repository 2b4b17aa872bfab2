"""A typed cache over Redis: JSON values, expiry, and one load for many equal misses, in one worker and across workers."""

import logging
import random
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

import msgspec

from nucleon import green
from nucleon.errors import DeadlineExceeded, NotFound, Problem, SetupError, Unavailable
from nucleon.redis.border import TIMER_SLACK_SECONDS
from nucleon.redis.copies import Copy, Made
from nucleon.redis.entries import CLAIM, INVALIDATE, STORE, Entry, claim_key, claimed, entry_from, stored_from
from nucleon.redis.grace import grace, spawn_apart
from nucleon.redis.kinds import check_kind
from nucleon.redis.measures import check_seconds
from nucleon.redis.patterns import KeyPattern
from nucleon.redis.scripts import RELEASE, Commands
from nucleon.redis.unreadable import UNREADABLE

T = TypeVar("T")
log = logging.getLogger("nucleon.redis")

AWAY = Entry(b"")
"""What is read when Redis is away and the cache is told to load then; nothing is claimed or stored."""

REPLY_AROUND_BYTES = 1024
"""What a reply has around a value."""

PLAIN: tuple[Any, ...] = (str, bytes, int, float, bool)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.005, 0.25  # of the one greenlet per worker that waits for another worker's load


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long a cache keeps what.

    ttl_seconds: a value is fresh. stale_seconds: after that it is still given while one greenlet loads it again (RFC 5861 section 3).
    stale_if_error_seconds: after that it is given when loading fails (RFC 5861 section 4). negative_seconds: a `NotFound` of the load is
    remembered. load_seconds: a load may hold off the other workers for so long, and a load in the background may take so long.
    when_away: with Redis away, "raise" `Unavailable`, or "load" from the source (once per worker and key at a time).
    """

    ttl_seconds: float
    stale_seconds: float = 0
    stale_if_error_seconds: float = 0
    negative_seconds: float = 0
    load_seconds: float = 10
    when_away: str = "raise"

    def __post_init__(self) -> None:
        check_seconds("cache", ttl_seconds=self.ttl_seconds, load_seconds=self.load_seconds)
        check_seconds("cache", 0, stale_seconds=self.stale_seconds, stale_if_error_seconds=self.stale_if_error_seconds)
        check_seconds("cache", 0, negative_seconds=self.negative_seconds)
        if self.when_away not in ("raise", "load"):
            raise SetupError(f'when_away is "raise" or "load", not {self.when_away!r}')

    @property
    def milliseconds(self) -> int:
        """How long Redis keeps a value."""
        return max(1, round((self.ttl_seconds + max(self.stale_seconds, self.stale_if_error_seconds)) * 1000))


class _Flight(Generic[T]):
    """One load under way, and those who wait for it. head: of what was under the key when it began."""

    __slots__ = ("data", "error", "head", "landed", "trace", "value", "waiting")

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.landed = green.Event()
        self.value: tuple[T] | None = None
        self.waiting = 0
        self.data: bytes | None = None  # the value encoded, for those who wait
        self.error: Exception | None = None
        self.trace: TracebackType | None = None


class Cache(Generic[T]):
    """Values of one type under keys made from a pattern.

    kind: a `Model`, a dataclass or whatever msgspec encodes. key: a pattern such as `"item:{id}"`; its fields are the keyword
    arguments of every method. A value that no longer fits the type (an older release wrote it) counts as a miss.
    clock: seconds since the epoch; what is fresh is judged by it, what is forgotten by Redis. encoding: `msgspec.json` or
    `msgspec.msgpack`.
    """

    GRACE_SECONDS = 2.0  # how long an invalidation keeps loads that began before it from storing: longer than a load should take
    MAXIMUM_REFRESHES = 100  # loads in the background per cache and worker; beyond, stale values are given without
    RETRY_SECONDS = 30.0  # how long an invalidation is tried again when Redis is away

    def __init__(
        self,
        commands: Commands,
        kind: type[T],
        key: str,
        keeping: Keeping,
        *,
        clock: Callable[[], float] = time.time,
        encoding: Any = msgspec.json,
    ) -> None:
        self._commands = commands
        self._pattern = KeyPattern(key, "cache")
        check_kind(f"cache {key!r}", kind)
        self.keeping = keeping
        self._clock = clock
        self._encoder = encoding.Encoder()
        self._decoder = encoding.Decoder(kind)
        struct = getattr(kind, "__struct_config__", None)
        self._is_immutable = kind in PLAIN or (struct is not None and struct.frozen)
        self._flights: dict[str, _Flight[T]] = {}
        self._refreshing: set[str] = set()
        self._retrying: set[str] = set()
        self.hits = self.misses = self.stale = self.loads = self.unreadable = 0

    def key(self, **key: object) -> str:
        """Return the Redis key; ":", "%", "{" and "}" in values are escaped, so that different values never share a key."""
        return self._pattern.filled(key)

    def get(self, **key: object) -> T | None:
        """Return the value while it is fresh, or None when there is none (or a remembered absence)."""
        place = self.key(**key)
        try:
            found = self._given(place, self._read(place))
        except NotFound:
            return None
        if found is None:
            self.misses += 1
            return None
        return found[0]

    def put(self, value: T, /, **key: object) -> None:
        """Store the value, whatever is there and whoever is loading. One larger than `reply_bytes` is not kept."""
        place = self.key(**key)
        self._flights.pop(place, None)
        data = stored_from("v", self._clock() + self.keeping.ttl_seconds, self._encoder.encode(value))
        if self._is_too_large(data):
            self.invalidate_at(place)
            return
        self._commands.execute_command("SET", place, data, "PX", self.keeping.milliseconds)

    def invalidate(self, **key: object) -> None:
        """Forget the value. Call it after the transaction that changed the source has committed."""
        self.invalidate_at(self.key(**key))

    def invalidation(self, **key: object) -> Callable[[], None]:
        """Return the function that forgets the value, for a transaction: `db.after_commit(items.invalidation(id=7))`.

        It does not raise when Redis is away, for the commit cannot be undone any more: it is tried again in the background for
        `RETRY_SECONDS`, and the log says when that did not help.
        """
        return self.invalidation_at(self.key(**key))

    def invalidation_at(self, place: str) -> Callable[[], None]:
        """As `invalidation`, under a Redis key that `key` has made."""

        def invalidate() -> None:
            try:
                with grace():  # the deadline may have passed in the commit
                    self.invalidate_at(place)
            except (Unavailable, DeadlineExceeded):
                self._retry_soon(place)
            except BaseException:
                self._retry_soon(place)  # killed, and the commit is done
                raise

        return invalidate

    def get_or(self, load: Callable[..., T], /, **key: object) -> T:
        """Return the value, or what `load(**key)` returns, which is stored then.

        Equal misses of one worker at the same time load once: the others wait, each until its own deadline, and share the value or the
        error. Of several workers one loads and the others wait for its value. When the loader is killed or out of time, the next
        in line loads. Raises what `load` raises; `NotFound` from a remembered absence; `Unavailable` when Redis is away.
        """
        return self.fetch(self.key(**key), lambda: load(**key))

    def fetch(self, place: str, load: Callable[[], T]) -> T:
        """As `get_or`, under a Redis key that `key` has made."""
        while True:
            entry = self._read(place)
            found = self._given(place, entry, load)
            if found is not None:
                return found[0]
            flight = self._flights.get(place)
            if flight is None or flight.head != entry.head:  # began before an invalidation that we have seen: too old for us
                self.misses += 1
                return self._fly(place, load, entry)
            flight.waiting += 1
            flight.landed.wait()
            if flight.value is not None:
                return self._value_of(flight, flight.value)
            if flight.error is not None:
                raise _again(flight.error).with_traceback(flight.trace)  # without that of the others who raise it

    def shown(self, copy: Copy) -> T | None:
        """Return the value in a copy of what is under a key, while it is fresh. It is decoded once: nobody may change it."""
        made = copy.made
        if made is None or made.by is not self:
            entry = entry_from(copy.reply)
            found = self._decoded(entry)
            made = copy.made = Made(self, entry.fresh_until, None if found is None else found[0])
        if self._clock() >= made.fresh_until:
            return None
        value: T | None = made.value
        return value

    def _read(self, place: str) -> Entry:
        try:
            return entry_from(self._commands.execute_command("GET", place, NEVER_DECODE=True))
        except Unavailable:
            if self.keeping.when_away == "load":
                return AWAY
            raise

    def _given(self, place: str, entry: Entry, load: Callable[[], T] | None = None) -> tuple[T] | None:
        """Return what may be given without loading; None for a miss. Raises `NotFound` from a remembered absence."""
        if entry.kind is None:
            return None
        late_seconds = self._clock() - entry.fresh_until
        if entry.kind == "n":
            if late_seconds >= 0:
                return None
            self.hits += 1
            raise NotFound(entry.data.decode(errors="replace") or None)
        if late_seconds >= (self.keeping.stale_seconds if load is not None else 0):
            return None
        found = self._decoded(entry)
        if found is None:
            return None
        if late_seconds < 0:
            self.hits += 1
        elif load is not None:
            self.stale += 1
            self._refresh_soon(place, load, entry)
        return found

    def _decoded(self, entry: Entry) -> tuple[T] | None:
        try:
            return (self._decoder.decode(entry.data),) if entry.kind == "v" else None
        except UNREADABLE as error:
            self._tell_unreadable(error)
            return None

    def _tell_unreadable(self, error: Exception) -> None:
        """Count a value that does not fit the type; the log tells of the first: when every load returns such, nothing is ever kept."""
        self.unreadable += 1
        if self.unreadable == 1:
            log.warning(
                "cache %r: a kept value is not of its type and counts as a miss (an older release wrote it, or the load returns "
                "something else than its annotation says; told once): %s", self._pattern.text, error
            )

    def _fly(self, place: str, load: Callable[[], T], entry: Entry) -> T:
        """Load for everybody in this worker who waits."""
        flight: _Flight[T] = _Flight(entry.head)
        self._flights[place] = flight
        try:
            value = self._load_alone(place, load, entry)
            flight.value = (value,)
            if flight.waiting and not self._is_immutable:
                flight.data = self._encoder.encode(value)
            return value
        except Exception as error:
            stale = self._stale_for(error, entry)
            if stale is not None:
                flight.value = stale
                return stale[0]
            if not (isinstance(error, DeadlineExceeded) and _is_over()):  # our deadline is not theirs: the next in line loads
                flight.error, flight.trace = error, error.__traceback__
            raise
        finally:
            if self._flights.get(place) is flight:
                del self._flights[place]
            flight.landed.set()

    def _value_of(self, flight: _Flight[T], value: tuple[T]) -> T:
        """Return the value for one who waited: what he changes in it, the others must not see."""
        own = None if flight.data is None else self._decoded(Entry(flight.head, "v", 0.0, flight.data))
        return value[0] if own is None else own[0]

    def _load_alone(self, place: str, load: Callable[[], T], entry: Entry) -> T:
        """Load when no other worker does; else wait for its value, and load when it gives up."""
        if entry is AWAY:
            return load()
        token, pause = secrets.token_hex(8), FIRST_PAUSE_SECONDS
        while True:
            verdict, with_it = self._claim(place, entry, token)
            if verdict == "yours":
                return self._load_claimed(place, load, with_it, token)
            if verdict == "away":
                return load()
            if verdict == "found":
                entry = entry_from(with_it)
                found = self._given(place, entry)
                if found is not None:
                    return found[0]
            else:
                green.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 1.6, LONGEST_PAUSE_SECONDS)

    def _claim(self, place: str, entry: Entry, token: str) -> tuple[str, bytes]:
        milliseconds = round(self.keeping.load_seconds * 1000)
        try:
            return claimed(CLAIM.run(self._commands, [place, claim_key(place)], entry.head, token, milliseconds, raw=True))
        except Unavailable:  # it may be ours without our knowing
            spawn_apart(self._release, place, token)
            if self.keeping.when_away == "load":
                return "away", b""
            raise
        except BaseException:
            self._release(place, token)  # killed or out of time while the reply was on its way
            raise

    def _load_claimed(self, place: str, load: Callable[[], T], head: bytes, token: str) -> T:
        """Load and store, unless the key changed since `head` was read; the claim is given back whatever happens."""
        self.loads += 1
        is_held = True
        try:
            try:
                value = load()
            except NotFound as absence:
                seconds = self.keeping.negative_seconds
                if seconds:
                    data = stored_from("n", self._clock() + seconds, (absence.detail or "").encode(errors="replace"))
                    is_held = not self._store(place, token, head, (data, max(1, round(seconds * 1000))))
                raise
            data = stored_from("v", self._clock() + self.keeping.ttl_seconds, self._encoder.encode(value))
            if not self._is_too_large(data):
                is_held = not self._store(place, token, head, (data, self.keeping.milliseconds))
            return value
        finally:
            if is_held:
                self._release(place, token)

    def _release(self, place: str, token: str) -> None:
        with suppress(Unavailable, DeadlineExceeded), grace():  # else it ends by itself after load_seconds
            RELEASE.run(self._commands, [claim_key(place)], token)

    def _store(self, place: str, token: str, head: bytes, stored: tuple[bytes, int]) -> bool:
        """Store and give the claim back. False: Redis is away; the value is good, though the next one has to load it again."""
        try:
            STORE.run(self._commands, [place, claim_key(place)], head, *stored, token)
        except Unavailable:
            return False
        return True

    def _is_too_large(self, data: bytes) -> bool:
        """Tell whether nobody could read a value again: each reader would lose a connection over it."""
        most = self._commands.settings.reply_bytes
        if len(data) < most - REPLY_AROUND_BYTES:
            return False
        log.warning("cache %r does not keep a value of %d bytes: reply_bytes of Redis is %d", self._pattern.text, len(data), most)
        return True

    def _stale_for(self, error: Exception, entry: Entry) -> tuple[T] | None:
        """Return the old value when loading failed through no fault of the client and the value is not too old."""
        if isinstance(error, Problem) and error.status < 500:
            return None
        found = self._decoded(entry)
        if found is None or self._clock() - entry.fresh_until >= self.keeping.stale_if_error_seconds:
            return None
        self.stale += 1
        log.warning("cache %r gives a stale value: loading failed with %s: %s", self._pattern.text, type(error).__name__, error)
        return found

    def _refresh_soon(self, place: str, load: Callable[[], T], entry: Entry) -> None:
        if place in self._refreshing or place in self._flights or len(self._refreshing) >= self.MAXIMUM_REFRESHES:
            return
        self._refreshing.add(place)
        spawn_apart(self._refresh, place, load, entry)

    def _refresh(self, place: str, load: Callable[[], T], entry: Entry) -> None:
        token = secrets.token_hex(8)
        try:
            with green.deadline(self.keeping.load_seconds):
                verdict, head = self._claim(place, entry, token)
                if verdict == "yours":
                    self._load_claimed(place, load, head, token)
        except Exception as error:  # noqa: BLE001  nobody waits for it: the log is told, and the next reader tries again
            log.warning("cache %r could not refresh: %s: %s", self._pattern.text, type(error).__name__, error)
        finally:
            self._refreshing.discard(place)

    def invalidate_at(self, place: str) -> None:
        """As `invalidate`, under a Redis key that `key` has made."""
        self._flights.pop(place, None)
        INVALIDATE.run(self._commands, [place, claim_key(place)], stored_from("i", 0), round(self.GRACE_SECONDS * 1000))

    def _retry_soon(self, place: str) -> None:
        if place in self._retrying:
            return
        if len(self._retrying) >= self.MAXIMUM_REFRESHES:
            log.error("cache %r: %s could not be invalidated: too many others wait for Redis", self._pattern.text, place)
            return
        self._retrying.add(place)
        spawn_apart(self._retry, place)

    def _retry(self, place: str) -> None:
        pause, end = 0.05, time.monotonic() + self.RETRY_SECONDS
        try:
            while time.monotonic() < end:
                green.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 2, 2.0)
                with suppress(Unavailable, DeadlineExceeded):
                    self.invalidate_at(place)
                    return
            log.error("cache %r: %s could not be invalidated: Redis was away for %g s", self._pattern.text, place, self.RETRY_SECONDS)
        finally:
            self._retrying.discard(place)

    def __repr__(self) -> str:
        return (
            f"<Cache {self._pattern.text!r} for {self.keeping.ttl_seconds:g} s: {self.hits} hits, {self.misses} misses, "
            f"{self.stale} stale, {len(self._flights)} loading, {len(self._refreshing)} refreshing>"
        )


def _again(error: Exception) -> Exception:
    """Return an error for one more who waited: a problem is his own, since its header fields are changed on the way out."""
    if not isinstance(error, Problem):
        return error
    own = type(error).__new__(type(error), *error.args)
    own.__dict__.update(error.__dict__)
    own.__cause__, own.__suppress_context__ = error.__cause__, error.__suppress_context__
    return own


def _is_over() -> bool:
    left = green.remaining()
    return left is not None and left <= TIMER_SLACK_SECONDS
