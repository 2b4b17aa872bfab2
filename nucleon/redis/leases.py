"""Leases: locks that their holder has to renew, with a fencing token, and a holder who is told when the lock is lost.

(Gray and Cheriton, "Leases", SOSP 1989; fencing tokens: Kleppmann, "How to do distributed locking", 2016.)
"""

import logging
import os
import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Literal
from weakref import WeakValueDictionary

from gevent import get_hub, getcurrent  # a holder may be a bare greenlet of the server, which nucleon.green does not hand out
from greenlet import greenlet
from redis.exceptions import ResponseError

from nucleon import green
from nucleon.errors import Conflict, DeadlineExceeded, SetupError, Unavailable
from nucleon.redis.grace import grace, spawn_apart
from nucleon.redis.hub import Client, Hub
from nucleon.redis.measures import check_seconds
from nucleon.redis.scripts import Script
from nucleon.redis.subscriptions import Message, Subscription

log = logging.getLogger("nucleon.redis")
OnLoss = Literal["check", "kill"]

ACQUIRE = Script("""
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return {0, redis.call('PTTL', KEYS[1])} end
local time = redis.call('TIME')
local fence = math.max(tonumber(redis.call('GET', KEYS[2]) or '0') + 1, time[1] * 1000000 + time[2])
redis.call('SET', KEYS[2], string.format('%.0f', fence), 'EX', 86400)
return {1, fence}
""")
"""Take the lease. KEYS lease, last fencing token; ARGV token, milliseconds. Fencing tokens are microseconds of the server's clock, and
never go back: neither when the clock does (within a day), nor when the server has lost its data."""

RENEW = Script("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0")
"""KEYS lease; ARGV token, milliseconds."""

GIVE_BACK = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', ARGV[2], '')
return 1
""")
"""KEYS lease; ARGV token, the channel where those who wait listen (a user who may not publish there has given it back all the same)."""


class LeaseLost(Conflict):
    """The lease ran out or was taken away while its block was running: what the block does now may collide with the next holder."""


class LeaseTaken(Unavailable):
    """Somebody else holds the lease, and the time to wait is over."""


class Line(green.Lock):
    """The greenlets of one worker that wait for the same lease; its first asks Redis."""

    __slots__ = ("__weakref__",)


Lines = WeakValueDictionary[str, Line]


class Held:
    """A lease in the hand of its holder. fence: grows with every holder; give it to the store, which refuses smaller ones."""

    __slots__ = ("_ended", "_token", "_until", "fence", "is_lost", "key")

    def __init__(self, key: str, token: str, fence: int, until: float) -> None:
        self.key = key
        self.fence = fence
        self.is_lost = False
        self._token = token
        self._until = until
        self._ended = green.Event()

    def remaining(self) -> float:
        """Return the seconds for which the lease is safe without another renewal; 0 when it is lost."""
        return 0.0 if self.is_lost else max(0.0, self._until - monotonic())

    def check(self) -> None:
        """Raise `LeaseLost` when the lease is lost; call it before every step that others must not repeat."""
        if self.remaining() <= 0:
            self.is_lost = True
            raise LeaseLost(f"the lease {self.key} is lost")

    def __repr__(self) -> str:
        return f"<Held {self.key}: {'lost' if self.is_lost else f'{self.remaining():.1f} s'}, fence {self.fence}>"


class Lease:
    """Something that one greenlet of all workers and machines may hold at a time: `with cache.lease("invoices").held() as held:`.

    ttl_seconds: how long it stays taken when its holder dies; a living one renews it each third of that. on_loss: "check": the block hears
    of a loss at the next `held.check()`, and at its end; "kill": `LeaseLost` is raised in the block wherever it waits.
    """

    RECHECK_SECONDS = 1.0  # a notice of release that was lost is made up for after this

    def __init__(
        self, client: Client, hub: Hub, name: str, *, ttl_seconds: float = 30.0, on_loss: OnLoss = "check", lines: Lines | None = None
    ) -> None:
        """lines: of the worker, so that all its objects for one name stand in one line."""
        check_seconds(f"lease {name!r}", ttl_seconds=ttl_seconds)
        if on_loss not in ("check", "kill"):
            raise SetupError(f'on_loss is "check" or "kill", not {on_loss!r}')
        self._client, self._hub = client, hub
        self.name = name
        self.ttl_seconds = ttl_seconds
        self.on_loss = on_loss
        self.key = "lease:{" + name + "}"
        self._channel = f"{self.key}:free"
        self._line = Line() if lines is None else lines.setdefault(self.key, Line())
        self.waiting = self.taken = self.lost = 0

    @contextmanager
    def held(self, wait_seconds: float | None = None) -> Iterator[Held]:
        """Wait for the lease, hold it during the block, give it back however the block ends (a kill included).

        wait_seconds: patience; None: until the deadline; 0: do not wait. Raises `LeaseTaken` (503) when it is over, `DeadlineExceeded` at
        the deadline, `Unavailable` when Redis is away, `LeaseLost` (409) at the end of a block that outlived its lease.
        """
        held = self._acquired(None if wait_seconds is None else max(0.0, wait_seconds))  # not NaN, for which no wait would end
        spawn_apart(self._keep, held, getcurrent(), os.getpid())
        try:
            yield held
        except BaseException:
            self._give_back(held)
            raise
        self._give_back(held)
        if held.is_lost:
            raise LeaseLost(f"the lease {self.key} was lost before its block had ended")

    def is_taken(self) -> bool:
        """Tell whether somebody holds the lease just now. Raises `Unavailable`."""
        return bool(self._client.execute_command("EXISTS", self.key))

    def _acquired(self, wait_seconds: float | None) -> Held:
        until = None if wait_seconds is None else monotonic() + wait_seconds
        self.waiting += 1
        try:
            if not self._line.acquire(wait_seconds):
                raise LeaseTaken(f"the lease {self.name} is taken")
            try:
                return self._first_in_line(until)
            finally:
                self._line.release()
        finally:
            self.waiting -= 1

    def _first_in_line(self, until: float | None) -> Held:
        held, _ = self._try()
        if held is not None:
            return held
        if until is not None and monotonic() >= until:
            raise LeaseTaken(f"the lease {self.name} is taken")
        with self._hub.subscribe(self._channel, maximum=1) as notices:
            while True:
                held, free_in_seconds = self._try()
                if held is not None:
                    return held
                self._wait(notices, free_in_seconds, until)

    def _wait(self, notices: Subscription[Message], free_in_seconds: float, until: float | None) -> None:
        pause = min(max(free_in_seconds, 0.001), self.RECHECK_SECONDS) + random.uniform(0, 0.02)
        if until is not None:
            left = until - monotonic()
            if left <= 0:
                raise LeaseTaken(f"the lease {self.name} is taken")
            pause = min(pause, left)
        notices.get(pause)

    def _try(self) -> tuple[Held | None, float]:
        """Ask once. Returns the lease, or nothing and the seconds after which it is free when its holder is dead."""
        token, asked = secrets.token_hex(12), monotonic()
        try:
            reply = ACQUIRE.run(self._client, [self.key, f"{self.key}:fence"], token, round(self.ttl_seconds * 1000))
        except BaseException:
            self._withdraw(token)  # it may be ours without our knowing: killed or out of time while the reply was on its way
            raise
        if not reply[0]:
            return None, reply[1] / 1000
        self.taken += 1
        return Held(self.key, token, int(reply[1]), asked + self.ttl_seconds), 0.0

    def _withdraw(self, token: str) -> None:
        with suppress(Unavailable, DeadlineExceeded), grace():
            GIVE_BACK.run(self._client, [self.key], token, self._channel)

    def _give_back(self, held: Held) -> None:
        held._ended.set()
        if held.remaining() <= 0:
            held.is_lost = True
        with suppress(Unavailable, DeadlineExceeded), grace():  # else it runs out by itself
            try:
                is_given_back = GIVE_BACK.run(self._client, [self.key], held._token, self._channel)
            except ResponseError as error:  # the key holds something else by now
                log.error("the lease %s could not be given back: %s", self.name, error)
                is_given_back = False
            held.is_lost = held.is_lost or not is_given_back
        self.lost += held.is_lost

    def _keep(self, held: Held, holder: greenlet, process: int) -> None:
        """Renew beside the block until it ends; when the lease is lost before that, tell the holder. process: whose block it is."""
        pause = self.ttl_seconds / 3
        while held.remaining() > 0:
            if held._ended.wait(min(pause, held.remaining())):
                return
            if os.getpid() != process:  # the copy in a forked child, which would renew it after the holder's death
                return
            asked = monotonic()
            try:
                with green.deadline(max(held.remaining(), 0.001)):
                    is_ours = RENEW.run(self._client, [self.key], held._token, round(self.ttl_seconds * 1000))
            except (Unavailable, DeadlineExceeded, ResponseError) as error:
                log.warning("the lease %s could not be renewed: %s", self.name, error)
                pause = min(self.ttl_seconds / 10, 1.0)
                continue
            if not is_ours:
                break
            held._until, pause = asked + self.ttl_seconds, self.ttl_seconds / 3
        if held._ended.is_set():
            return
        held.is_lost = True
        log.error("the lease %s is lost while its block is running", self.name)
        if self.on_loss == "kill":
            get_hub().loop.run_callback(_strike, held, holder)

    def __repr__(self) -> str:
        return f"<Lease {self.name!r} for {self.ttl_seconds:g} s: {self.waiting} waiting, {self.taken} taken, {self.lost} lost>"


def _strike(held: Held, holder: greenlet) -> None:
    """Raise `LeaseLost` in the block, if it is still running: its greenlet may serve another request by now."""
    if not held._ended.is_set():
        holder.throw(LeaseLost(f"the lease {held.key} is lost"))
