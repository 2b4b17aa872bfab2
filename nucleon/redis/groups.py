"""Consumer groups of a stream: every entry is given to one consumer, again when that one dies, and put aside after too many tries.

At least once: an entry is acknowledged after its block succeeded. One whose consumer died, or whose block failed, is claimed by another
after `abandoned_seconds` (XAUTOCLAIM); while a block runs, its entry is kept from being claimed.
"""

import logging
import os
import random
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from types import TracebackType
from typing import Any, Generic, TypeVar

from redis.exceptions import ResponseError

from nucleon import green
from nucleon.errors import DeadlineExceeded, Unavailable
from nucleon.redis.grace import grace, spawn_apart
from nucleon.redis.measures import check_counts, check_seconds
from nucleon.redis.scripts import Commands, Script
from nucleon.redis.unreadable import UNREADABLE

T = TypeVar("T")
Entry = tuple[str, dict[bytes, bytes]]
log = logging.getLogger("nucleon.redis")
FIELD = "v"

PUT_ASIDE = Script("""
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'v', ARGV[4], 'id', ARGV[2], 'group', ARGV[1], 'reason', ARGV[5])
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
""")
"""KEYS stream, dead letters; ARGV group, id, longest, value, reason."""

LEAVE = Script("""
local left = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local fact = {}
  for at = 1, #consumer, 2 do fact[consumer[at]] = consumer[at + 1] end
  if fact.pending == 0 and (fact.name == ARGV[2] or fact.idle > tonumber(ARGV[3])) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], fact.name)
    left = left + 1
  end
end
return left
""")
"""Forget consumers that hold nothing: one by name, and those silent for long. KEYS stream; ARGV group, name, milliseconds."""


def entries_from(reply: Any) -> list[Entry]:
    """Return ids and fields of a reply with entries; those that were trimmed meanwhile are left out."""
    return [(_text(id), fields) for id, fields in reply or () if id is not None and fields]


class Delivery(Generic[T]):
    """One entry in the hand of a consumer; as a context manager it acknowledges when the block succeeds.

    A block that raises leaves the entry for another try: the error is logged and goes no further. attempt: 1 for the first delivery.
    """

    __slots__ = ("_group", "attempt", "data", "id", "value")

    def __init__(self, group: "Group[T]", id: str, value: T, data: bytes, attempt: int) -> None:
        self._group = group
        self.id, self.value, self.data, self.attempt = id, value, data, attempt

    def ack(self) -> None:
        """Say that it is done. When Redis is away, it is said again as soon as Redis is back."""
        self._group.ack(self.id)

    def put_aside(self, reason: str) -> None:
        """Move it to the dead letters: another try would not help. Raises `Unavailable`."""
        self._group.put_aside(self.id, self.data, reason)

    def __enter__(self) -> "Delivery[T]":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is None:
            self.ack()
            return False
        self._group.drop(self.id)
        if not isinstance(error, Exception):
            return False
        self._group.tell_failed(self.id, self.attempt, error)
        return True

    def __repr__(self) -> str:
        return f"<Delivery {self.id}, attempt {self.attempt}: {self.value!r}>"


class Group(Generic[T]):
    """A named group of consumers, of which this worker is one.

    abandoned_seconds: an entry without sign of life from its consumer goes to another. maximum_deliveries: then it is put aside, into the
    stream `{key}:dead:group`, of at most `maximum_dead`. block_seconds: how long one read waits; stopping takes as long.
    start: where a new group begins, "0" (the oldest entry) or "$" (new ones only).
    """

    CONSUMER_DAYS = 1.0  # a consumer that is gone and holds nothing is forgotten after

    def __init__(
        self,
        commands: Commands,
        key: str,
        name: str,
        decode: Callable[[bytes], T],
        *,
        abandoned_seconds: float = 60.0,
        maximum_deliveries: int = 5,
        maximum_dead: int = 10_000,
        block_seconds: float = 1.0,
        start: str = "0",
    ) -> None:
        check_seconds(f"group {name!r}", abandoned_seconds=abandoned_seconds, block_seconds=block_seconds)
        check_counts(f"group {name!r}", maximum_deliveries=maximum_deliveries, maximum_dead=maximum_dead)
        self._commands, self._decode = commands, decode
        self.key, self.name, self.dead_key = key, name, "{" + key + "}:dead:" + name
        self.abandoned_seconds, self.maximum_deliveries, self.maximum_dead = abandoned_seconds, maximum_deliveries, maximum_dead
        self.block_seconds, self.start = block_seconds, start
        self.consumer = ""
        self._in_hand: set[str] = set()
        self._to_ack: set[str] = set()
        self._is_made = False
        self._claim_at = 0.0
        self._is_away = False
        self.stopping = False
        self.delivered = self.acknowledged = self.claimed = self.dead = self.trimmed = 0

    def deliveries(self) -> Iterator[Delivery[T]]:
        """Yield entries as they come, one at a time, until `stopping` is set; waits out the times when Redis is away.

        One that was neither acknowledged nor put aside when the next is asked for, or the loop is left, is tried again later.
        """
        self.stopping = False
        toucher = spawn_apart(self.keep_touching)
        try:
            while not self.stopping:
                for delivery in self.next_deliveries(1):
                    try:
                        yield delivery
                    finally:
                        self.drop(delivery.id)
        finally:
            toucher.kill(block=False)
            self.leave()

    def next_deliveries(self, count: int) -> list[Delivery[T]]:
        """Return up to `count` entries: abandoned ones first, else new ones, waiting for `block_seconds`; none when there are none."""
        try:
            self._make()
            self._acknowledge_late()
            found = self._claim(count) if monotonic() >= self._claim_at else []
            found = found or [delivery for entry in self._read(count) if (delivery := self._delivery(*entry, 1)) is not None]
            self._is_away = False
            self._in_hand.update(delivery.id for delivery in found)  # only now: what is not handed out must not be kept from others
            self.delivered += len(found)
            return found
        except (Unavailable, DeadlineExceeded) as error:
            if not self._is_away:
                self._is_away = True
                log.warning("%s waits for Redis: %s (%s)", self, error, error.__cause__)
            green.sleep(random.uniform(0.1, 0.5))
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._is_made = False  # the server has lost its data: the group is made anew
        return []

    def ack(self, id: str) -> None:
        """Acknowledge an entry, now or when Redis is back."""
        try:
            with grace():
                self._commands.execute_command("XACK", self.key, self.name, id)
        except (Unavailable, DeadlineExceeded) as error:
            self._to_ack.add(id)
            log.warning("entry %s is done and not yet acknowledged: %s", id, error)
            return
        except BaseException:
            self._to_ack.add(id)  # killed while saying so
            raise
        self._in_hand.discard(id)
        self.acknowledged += 1

    def drop(self, id: str) -> None:
        """Let another consumer, or this one, try again after `abandoned_seconds`; not what is done and only to be acknowledged."""
        if id not in self._to_ack:
            self._in_hand.discard(id)

    def tell_failed(self, id: str, attempt: int, error: Exception) -> None:
        """Write to the log that a handler failed, and what becomes of the entry."""
        last = attempt >= self.maximum_deliveries
        what = f"put aside into {self.dead_key!r}" if last else "tried again"
        where, tries = f"{self.key!r}, group {self.name!r}", f"try {attempt} of {self.maximum_deliveries}"
        log.error("entry %s of %s failed, %s; %s after %g s", id, where, tries, what, self.abandoned_seconds, exc_info=error)

    def put_aside(self, id: str, data: bytes, reason: str) -> None:
        """Move an entry to the dead letters. Raises `Unavailable`."""
        PUT_ASIDE.run(self._commands, [self.key, self.dead_key], self.name, id, self.maximum_dead, data, reason)
        self._in_hand.discard(id)
        self.dead += 1
        log.error("entry %s of %r is put aside into %r: %s", id, self.key, self.dead_key, reason)

    def backlog(self) -> int:
        """Return how many entries were given to a consumer and are not acknowledged."""
        self._make()
        return int(self._commands.execute_command("XPENDING", self.key, self.name)["pending"])

    def leave(self) -> None:
        """Keep nothing from others any more, and forget this consumer when it holds nothing; called at the end."""
        self._in_hand.intersection_update(self._to_ack)
        if not self.consumer:
            return
        try:
            with grace():
                LEAVE.run(self._commands, [self.key], self.name, self.consumer, round(self.CONSUMER_DAYS * 86_400_000))
        except (Unavailable, DeadlineExceeded, ResponseError):
            log.debug("consumer %s could not leave", self.consumer, exc_info=True)

    def touch(self) -> None:
        """Keep what is in hand from being claimed by others. Raises `Unavailable`."""
        if self._in_hand:
            self._commands.execute_command("XCLAIM", self.key, self.name, self.consumer, 0, *self._in_hand, "JUSTID", parse_justid=True)

    def keep_touching(self) -> None:
        """Touch again and again, on a greenlet of its own, until it is killed."""
        process = os.getpid()
        while True:
            green.sleep(self.abandoned_seconds / 3)
            if os.getpid() != process:  # the copy in a forked child, which would keep entries of a dead parent from everybody
                return
            try:
                self.touch()
            except (Unavailable, DeadlineExceeded, ResponseError) as error:
                log.warning("%s could not keep its entries: %s", self, error)

    def _make(self) -> None:
        if not self.consumer:  # not at import: every forked worker is a consumer of its own
            self.consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        if self._is_made:
            return
        try:
            self._commands.execute_command("XGROUP CREATE", self.key, self.name, self.start, "MKSTREAM")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        self._is_made = True

    def _acknowledge_late(self) -> None:
        if self._to_ack:
            late = sorted(self._to_ack)
            self._commands.execute_command("XACK", self.key, self.name, *late)
            self._to_ack.difference_update(late)
            self._in_hand.difference_update(late)
            self.acknowledged += len(late)

    def _read(self, count: int) -> list[Entry]:
        milliseconds = max(1, round(self.block_seconds * 1000))
        asked = ("GROUP", self.name, self.consumer, "COUNT", count, "BLOCK", milliseconds, "STREAMS", self.key, ">")
        reply = self._commands.execute_command("XREADGROUP", *asked, NEVER_DECODE=True)
        if isinstance(reply, Mapping):  # RESP3
            return entries_from([entry for entries in reply.values() for entry in (entries[0] if entries else ())])
        return entries_from(reply[0][1]) if reply else []

    def _claim(self, count: int) -> list[Delivery[T]]:
        """Take entries whose consumer is gone; put those aside that were tried often enough."""
        found: list[Delivery[T]] = []
        cursor = "0-0"
        while not found:
            cursor, entries = self._claimed_after(cursor, count)
            found = self._tried_again(entries)
            if cursor == "0-0":
                break
        if not found:
            self._claim_at = monotonic() + self.abandoned_seconds / 3 * random.uniform(0.8, 1.2)
        return found

    def _claimed_after(self, cursor: str, count: int) -> tuple[str, list[Entry]]:
        """Claim some: the server looks at ten times `count` entries, and says where to go on ("0-0": that was all)."""
        idle = round(self.abandoned_seconds * 1000)
        reply = self._commands.execute_command(
            "XAUTOCLAIM", self.key, self.name, self.consumer, idle, cursor, "COUNT", count, NEVER_DECODE=True
        )
        if len(reply) > 2 and reply[2]:
            self.trimmed += len(reply[2])
            log.error("%d entries were trimmed before they were handled (raise maximum_length of the stream): %s", len(reply[2]), self)
        return _text(reply[0]), entries_from(reply[1])

    def _tried_again(self, entries: list[Entry]) -> list[Delivery[T]]:
        found = []
        for id, fields in entries:
            pending = self._commands.execute_command("XPENDING", self.key, self.name, id, id, 1, parse_detail=True)
            attempt = int(pending[0]["times_delivered"]) if pending else self.maximum_deliveries
            self.claimed += 1
            if attempt > self.maximum_deliveries:
                self.put_aside(id, fields.get(FIELD.encode(), b""), f"delivered {self.maximum_deliveries} times")
            elif (delivery := self._delivery(id, fields, attempt)) is not None:
                found.append(delivery)
        return found

    def _delivery(self, id: str, fields: dict[bytes, bytes], attempt: int) -> Delivery[T] | None:
        data = fields.get(FIELD.encode(), b"")
        try:
            value = self._decode(data)
        except UNREADABLE as error:
            self.put_aside(id, data, f"not what this group reads: {error}")
            return None
        return Delivery(self, id, value, data, attempt)

    def __repr__(self) -> str:
        return (
            f"<Group {self.name!r} of {self.key!r}: {len(self._in_hand)} in hand, {self.delivered} delivered, "
            f"{self.acknowledged} acknowledged, {self.claimed} claimed, {self.dead} put aside>"
        )


def _text(id: bytes | str) -> str:
    return id.decode() if isinstance(id, bytes) else id
