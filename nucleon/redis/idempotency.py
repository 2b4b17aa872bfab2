"""What happened under an idempotency key: claimed by the first request, kept for its repetitions."""

import logging
import random
import secrets
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from time import monotonic
from typing import Literal

import msgspec

from nucleon import green
from nucleon.errors import DeadlineExceeded, Unavailable
from nucleon.redis.grace import grace, spawn_apart
from nucleon.redis.measures import check_counts, check_seconds
from nucleon.redis.scripts import RELEASE, Commands, Script
from nucleon.redis.unreadable import UNREADABLE

log = logging.getLogger("nucleon.redis")

BEGIN = Script("""
local found = redis.call('GET', KEYS[1])
if found then return found end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''
""")
"""KEYS record; ARGV the mark of a running request, milliseconds. Returns what was there."""

FINISH = Script("""
local found = redis.call('GET', KEYS[1])
if found == ARGV[2] then return 1 end
if found and found ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""")
"""KEYS record; ARGV our mark, what to keep, milliseconds. 0: another request has begun since our mark ran out."""


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer: status, header fields, body. body None: it was too large to keep, or cannot be read any more."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Begun:
    """What a request with this key finds.

    state "first": it is the first and now holds the key; "running": the first has not answered yet; "done": `kept` is its answer;
    "different": the key belongs to a request of other content.
    """

    state: Literal["first", "running", "done", "different"]
    kept: Kept | None = None
    place: str = ""
    mark: bytes = b""


class Idempotency:
    """Answers kept under the keys that clients give (`Idempotency-Key`).

    ttl_seconds: an answer is kept. running_seconds: a key stays claimed when the process of its first request died; longer than
    the deadline of its routes. maximum_bytes: of a kept body. required: a request without the field is refused (400).
    """

    RETRY_SECONDS = 30.0  # how long keeping an answer is tried again when Redis went away in the meantime
    MAXIMUM_RETRIES = 1000  # answers that wait for Redis in one worker; more are given up, with a line in the log

    def __init__(
        self,
        commands: Commands,
        *,
        ttl_seconds: float = 86_400,
        running_seconds: float = 60,
        maximum_bytes: int = 1_048_576,
        required: bool = False,
    ) -> None:
        check_seconds("idempotency", ttl_seconds=ttl_seconds, running_seconds=running_seconds)
        check_counts("idempotency", 0, maximum_bytes=maximum_bytes)
        self._commands = commands
        self.ttl_seconds, self.running_seconds = ttl_seconds, running_seconds
        self.maximum_bytes, self.required = maximum_bytes, required
        self._retrying = 0
        self.first = self.replayed = self.refused = self.released = 0

    def begin(self, scope: str, key: str, fingerprint: bytes) -> Begun:
        """Claim a key for the first request, or tell what became of it. scope: keys of different scopes are different keys.

        fingerprint: 16 bytes of the content. Raises `Unavailable` when Redis is away: what has to run once does not run then.
        """
        digest = blake2b(f"{len(scope)}:{scope}{key}".encode(), digest_size=20).hexdigest()
        place, mark = f"idempotent:{digest}", b"r" + fingerprint + secrets.token_bytes(8)
        try:
            found = BEGIN.run(self._commands, [place], mark, round(self.running_seconds * 1000), raw=True)
        except BaseException:
            self.release(Begun("first", None, place, mark))  # it may be ours without our knowing
            raise
        if not found:
            self.first += 1
            return Begun("first", None, place, mark)
        if found[1:17] != fingerprint:
            self.refused += 1
            return Begun("different")
        if found[:1] == b"r":
            self.refused += 1
            return Begun("running")
        self.replayed += 1
        return Begun("done", _kept_from(found[17:]))

    def finish(self, begun: Begun, status: int, headers: list[tuple[str, str]], body: bytes | None) -> None:
        """Keep the answer of the first request; body None: only that it was given.

        It does not raise when Redis is away, for the work is done; it is tried again in the background.
        """
        kept = Kept(status, headers, body if body is not None and len(body) <= self.maximum_bytes else None)
        data = b"d" + begun.mark[1:17] + msgspec.msgpack.encode(kept)
        try:
            with grace():  # the deadline may have passed while the work was committed
                self._finish(begun, data)
        except (Unavailable, DeadlineExceeded):
            self._retry_soon(begun, data)
        except BaseException:
            self._retry_soon(begun, data)  # killed, and the work is done
            raise

    def release(self, begun: Begun) -> None:
        """Free the key of a first request that failed: its repetition runs. When Redis is away, it frees itself after `running_seconds`."""
        self.released += 1
        with suppress(Unavailable, DeadlineExceeded), grace():
            RELEASE.run(self._commands, [begun.place], begun.mark)

    def _retry_soon(self, begun: Begun, data: bytes) -> None:
        if self._retrying >= self.MAXIMUM_RETRIES:
            log.error("an answer under an idempotency key is not kept: too many wait for Redis")
            return
        self._retrying += 1
        spawn_apart(self._retry, begun, data)

    def _finish(self, begun: Begun, data: bytes) -> None:
        if not FINISH.run(self._commands, [begun.place], begun.mark, data, round(self.ttl_seconds * 1000)):
            log.error("a request outlived its claim on an idempotency key, and another has begun: raise running_seconds")

    def _retry(self, begun: Begun, data: bytes) -> None:
        pause, end = 0.05, monotonic() + self.RETRY_SECONDS
        try:
            while monotonic() < end:
                with suppress(Unavailable, DeadlineExceeded):
                    self._finish(begun, data)
                    return
                green.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 2, 2.0)
            log.error("an answer under an idempotency key is not kept: Redis was away for %g s", self.RETRY_SECONDS)
        finally:
            self._retrying -= 1

    def __repr__(self) -> str:
        return (
            f"<Idempotency for {self.ttl_seconds:g} s: {self.first} first, {self.replayed} replayed, {self.refused} refused, "
            f"{self.released} released, {self._retrying} waiting for Redis>"
        )


def _kept_from(data: bytes) -> Kept:
    """Read an answer; of one that cannot be read (another release wrote it) is known that it was given."""
    try:
        return msgspec.msgpack.decode(data, type=Kept)
    except UNREADABLE:
        return Kept(200, [], None)
