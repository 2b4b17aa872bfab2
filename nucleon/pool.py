"""One bounded pool for any resource: fair waiters, lifetime, validation, leak report, counters.

Takers wait in one line, first come first served. Things are opened by greenlets of the pool, never by a taker: a taker that
gives up or is killed disturbs no connect, at most `parallel_connects` run at a time, and a failed one is tried again with
back-off while somebody waits. Whoever takes a slot gives it back in a `finally`; nothing in `give_back` can lose it.
"""

import logging
import os
import random
import sys
import traceback
import weakref
from collections import Counter, deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar

import gevent
from gevent.event import Event

from nucleon.errors import DeadlineExceeded, Problem, Unavailable
from nucleon.green import deadline_at
from nucleon.hooks import connection_closed, connection_opened, pool_waited

log = logging.getLogger("nucleon.pool")

T = TypeVar("T")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0  # back-off of connects: doubled, with full jitter


class PoolExhausted(Unavailable):
    """Nothing came free within the time that the taker may wait."""


class SelfDeadlock(Problem):
    """Everyone who holds a thing of the pool waits for a second one: nothing can ever come free."""

    status = 500


class PermanentFailure(Exception):
    """Raised by `create` when trying again is useless (wrong password); its cause is told to everyone who waits."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a pool may do. Times in seconds; 0 switches `leak_seconds`, `idle_seconds` and `lifetime_seconds` off."""

    minimum: int = 0
    maximum: int = 10
    wait_seconds: float = 5.0
    waiting_maximum: int = 10_000
    lifetime_seconds: float = 1800.0
    idle_seconds: float = 600.0
    validate_after_seconds: float = 0.5
    validation_seconds: float = 2.0
    leak_seconds: float = 0.0
    parallel_connects: int = 2

    def __post_init__(self) -> None:
        if self.maximum < 1 or not 0 <= self.minimum <= self.maximum:
            raise ValueError(f"a pool of minimum {self.minimum} and maximum {self.maximum} cannot be")


class Slot(Generic[T]):
    """A thing of the pool and what the pool knows about it."""

    __slots__ = ("expires_at", "generation", "holder", "idle_since", "leak_told", "stack", "taken_at", "thing", "touched")

    def __init__(self, thing: T, expires_at: float, generation: int) -> None:
        self.thing = thing
        self.expires_at = expires_at
        self.generation = generation
        self.idle_since = monotonic()
        self.holder: object = None
        self.taken_at = 0.0
        self.leak_told = False
        self.stack: list[str] = []
        self.touched = False


class _Waiter(Generic[T]):
    __slots__ = ("error", "event", "greenlet", "slot")

    def __init__(self) -> None:
        self.event = Event()
        self.greenlet = gevent.getcurrent()
        self.slot: Slot[T] | None = None
        self.error: Problem | None = None


class Pool(Generic[T]):
    """Lend things out, at most `limits.maximum` at a time.

    create: opens a thing; it may wait, and may raise. `PermanentFailure` ends the tries.
    close: lets a thing go without waiting.
    is_alive: tells without waiting whether an idle thing still looks well (a closed socket is seen at once).
    check: proves with a round trip that the thing works; raises when not. Asked when it was idle for `validate_after_seconds`.
    reset: makes a returned thing clean; raises or returns False when it has to be closed. May wait, bounded by itself.
    """

    def __init__(
        self,
        *,
        name: str,
        create: Callable[[], T],
        close: Callable[[T], None],
        is_alive: Callable[[T], bool] = lambda thing: True,
        check: Callable[[T, float], None] = lambda thing, seconds: None,
        reset: Callable[[Slot[T]], bool] = lambda slot: True,
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self.limits = limits or Limits()
        self.closed_by_reason: Counter[str] = Counter()
        self.created = 0
        self._create, self._close, self._is_alive, self._check, self._reset = create, close, is_alive, check, reset
        self._idle: list[Slot[T]] = []
        self._used: set[Slot[T]] = set()
        self._waiters: deque[_Waiter[T]] = deque()
        self._opening = 0
        self._failures = 0
        self._last_failure: Exception | None = None
        self._generation = 0
        self._stopped = False
        self._keeper: gevent.Greenlet[..., None] | None = None
        self._pools.add(self)

    _pools: "weakref.WeakSet[Pool[Any]]" = weakref.WeakSet()

    @property
    def size(self) -> int:
        """How many things there are, those being opened included."""
        return len(self._idle) + len(self._used) + self._opening

    @property
    def waiting(self) -> int:
        """How many greenlets wait for a thing."""
        return len(self._waiters)

    @property
    def in_use(self) -> int:
        """How many things are lent out."""
        return len(self._used)

    def __repr__(self) -> str:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.closed_by_reason.items()))
        return (
            f"<Pool {self.name}: {len(self._used)} in use, {len(self._idle)} idle, {self._opening} opening of {self.limits.maximum}; "
            f"{len(self._waiters)} waiting; {self.created} created, closed: {reasons or 'none'}>"
        )

    def take(self) -> Slot[T]:
        """Lend a thing that works, waiting in line for it.

        Raises `PoolExhausted` (503) after `wait_seconds`, `DeadlineExceeded` at the deadline, `SelfDeadlock` when nothing can come,
        `Unavailable` when no thing can be opened.
        """
        if self._idle and not self._waiters:
            slot = self._idle[-1]
            now = monotonic()
            if now < slot.expires_at and now - slot.idle_since < self.limits.validate_after_seconds and self._is_alive(slot.thing):
                self._idle.pop()
                return self._lend(slot)
        return self._take_slowly()

    def give_back(self, slot: Slot[T], broken: str | None = None) -> None:
        """Take a lent thing back, clean it, and hand it to the first in line. `broken`: why it is closed instead."""
        if slot not in self._used:
            return  # given back twice, or lent before a fork
        reason = broken
        try:
            if reason is None and not self._reset(slot):
                reason = "broken"
        except Exception:
            log.debug("%s: a returned thing could not be reset", self.name, exc_info=True)
            reason = "broken"
        except BaseException:
            self._drop(slot, "killed")
            raise
        if reason is None and monotonic() >= slot.expires_at:
            reason = "lifetime"
        if reason is None and self._stopped:
            reason = "stopped"
        if reason is not None:
            self._drop(slot, reason)
            return
        self._used.discard(slot)
        slot.holder = None
        slot.touched = False
        self._offer(slot)

    def start(self) -> None:
        """Lend from now on (again, after `stop`)."""
        self._stopped = False
        self._open_as_needed()

    def stop(self) -> None:
        """Close what is idle; what is lent out is closed when it comes back; those who wait get `Unavailable`."""
        self._stopped = True
        self.evict("stopped")
        while self._waiters:
            self._refuse(self._waiters.popleft(), Unavailable(f"{self.name} is stopped"))
        if self._keeper is not None:
            self._keeper.kill(block=False)
            self._keeper = None

    def evict(self, reason: str) -> None:
        """Close everything idle and let nothing that is lent out now come back into use."""
        for slot in self._used:
            slot.expires_at = 0.0
        idle, self._idle = self._idle, []
        for slot in idle:
            self._close_thing(slot, reason)

    def _lend(self, slot: Slot[T]) -> Slot[T]:
        slot.holder = gevent.getcurrent()
        slot.taken_at = monotonic()
        if self.limits.leak_seconds:
            slot.leak_told = False
            slot.stack = traceback.format_stack(sys._getframe(2), limit=12)
        self._used.add(slot)
        return slot

    def _take_slowly(self) -> Slot[T]:
        started = monotonic()
        patience_ends = started + self.limits.wait_seconds
        at = deadline_at.get()
        ends = patience_ends if at is None else min(patience_ends, at)
        served = False
        first = False
        try:
            while True:
                slot = self._next(ends, first)
                first = True  # a thing that failed its check costs nobody his place in the line
                if self._proven(slot, ends):
                    served = True
                    return slot
        finally:
            for listener in pool_waited.listeners:
                listener(resource=self.name, seconds=monotonic() - started, served=served)

    def _next(self, ends: float, first: bool) -> Slot[T]:
        if self._stopped:
            raise Unavailable(f"{self.name} is stopped")
        if self._idle and (first or not self._waiters):
            return self._lend(self._idle.pop())
        return self._wait(ends, first)

    def _proven(self, slot: Slot[T], ends: float) -> bool:
        """Whether the lent slot works; when not it has been dropped, with all that was idle as long."""
        now = monotonic()
        if now >= slot.expires_at:
            self._drop(slot, "lifetime")
            return False
        try:
            alive = self._is_alive(slot.thing)
            if alive and now - slot.idle_since >= self.limits.validate_after_seconds:
                self._check(slot.thing, max(0.01, min(self.limits.validation_seconds, ends - now)))
        except Exception:  # noqa: BLE001  whatever the check met, the thing is not lent
            alive = False
        except BaseException:
            self._drop(slot, "killed")
            raise
        if not alive:
            self._drop(slot, "dead")
            self._drop_dead()
        return alive

    def _drop_dead(self) -> None:
        suspicious = monotonic() - self.limits.validate_after_seconds
        idle, self._idle = self._idle, []
        for slot in idle:
            if slot.idle_since > suspicious and self._is_alive(slot.thing):
                self._idle.append(slot)
            else:
                self._close_thing(slot, "dead")

    def _wait(self, ends: float, first: bool) -> Slot[T]:
        if len(self._waiters) >= self.limits.waiting_maximum:
            raise PoolExhausted(self._exhausted("the line is full"))
        self._refuse_self_deadlock()
        waiter: _Waiter[T] = _Waiter()
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        self._open_as_needed()
        try:
            waiter.event.wait(max(0.0, ends - monotonic()))
        except BaseException:
            self._leave(waiter)
            if waiter.slot is not None:
                self.give_back(waiter.slot)
            raise
        if waiter.slot is not None:
            self._used.discard(waiter.slot)
            return self._lend(waiter.slot)
        self._leave(waiter)
        raise waiter.error or self._too_late(ends)

    def _leave(self, waiter: _Waiter[T]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def _too_late(self, ends: float) -> Problem:
        at = deadline_at.get()
        failure = self._last_failure
        if failure is not None and self._failures:
            if isinstance(failure, Problem):
                return failure
            problem = Unavailable(f"{self.name} cannot be reached")
            problem.__cause__ = failure
            return problem
        if at is not None and at <= ends:
            return DeadlineExceeded(self._exhausted("the deadline has passed"))
        return PoolExhausted(self._exhausted(f"none came free within {self.limits.wait_seconds:g} s"))

    def _exhausted(self, why: str) -> str:
        return f"{self.name}: {why}; {len(self._used)} of {self.limits.maximum} connections in use, {len(self._waiters)} waiting"

    def _refuse_self_deadlock(self) -> None:
        me = gevent.getcurrent()
        if len(self._used) < self.limits.maximum or not any(slot.holder is me for slot in self._used):
            return
        stuck = {id(waiter.greenlet) for waiter in self._waiters} | {id(me)}
        if all(id(slot.holder) in stuck for slot in self._used):
            raise SelfDeadlock(
                f"{self.name}: this greenlet holds a connection and asks for a second, and all {self.limits.maximum} are held by greenlets "
                "that do the same: none can ever come free. Use the one that is held (the transaction's), or raise the pool's maximum"
            )

    def _offer(self, slot: Slot[T]) -> None:
        """Hand a clean thing to the first in line, or keep it."""
        slot.idle_since = monotonic()
        while self._waiters:
            waiter = self._waiters.popleft()
            if waiter.event.is_set():
                continue
            waiter.slot = slot
            slot.holder = waiter.greenlet
            self._used.add(slot)
            waiter.event.set()
            return
        self._idle.append(slot)

    def _refuse(self, waiter: _Waiter[T], error: Problem) -> None:
        waiter.error = error
        waiter.event.set()

    def _drop(self, slot: Slot[T], reason: str) -> None:
        self._used.discard(slot)
        slot.holder = None
        self._close_thing(slot, reason)
        self._open_as_needed()

    def _close_thing(self, slot: Slot[T], reason: str) -> None:
        self.closed_by_reason[reason] += 1
        if slot.generation == self._generation:
            try:
                self._close(slot.thing)
            except Exception:
                log.debug("%s: closing failed", self.name, exc_info=True)
        for listener in connection_closed.listeners:
            listener(resource=self.name, reason=reason)

    def _open_as_needed(self) -> None:
        """Start as many openers as the line and the minimum ask for and the limits allow."""
        if self._stopped:
            return
        while True:
            wanted = max(len(self._waiters), self.limits.minimum - len(self._idle) - len(self._used))
            if self._opening >= min(wanted, self.limits.parallel_connects) or self.size >= self.limits.maximum:
                return
            self._opening += 1
            gevent.spawn(Context().run, self._open, self._generation)

    def _open(self, generation: int) -> None:
        try:
            if self._failures:
                longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (min(self._failures, 10) - 1))
                gevent.sleep(random.uniform(longest / 4, longest))
            if generation == self._generation and not self._stopped and self._is_wanted():
                self._open_one(generation)
        finally:
            if generation == self._generation:
                self._opening -= 1
        if generation == self._generation:
            self._open_as_needed()

    def _is_wanted(self) -> bool:
        return bool(self._waiters) or len(self._idle) + len(self._used) < self.limits.minimum

    def _open_one(self, generation: int) -> None:
        started = monotonic()
        try:
            thing = self._create()
        except PermanentFailure as error:
            self._failures += 1
            self._last_failure = error.problem
            while self._waiters:
                self._refuse(self._waiters.popleft(), error.problem)
            return
        except Exception as error:  # noqa: BLE001  told to those who wait, and tried again
            self._failures += 1
            self._last_failure = error
            log.warning("%s: cannot connect (try %d): %s", self.name, self._failures, str(error).strip().split("\n")[0])
            return
        lifetime = self.limits.lifetime_seconds
        expires_at = monotonic() + lifetime * random.uniform(0.9, 1.1) if lifetime else float("inf")
        slot = Slot(thing, expires_at, generation)
        self._failures = 0
        self._last_failure = None
        self.created += 1
        for listener in connection_opened.listeners:
            listener(resource=self.name, seconds=monotonic() - started)
        if self._stopped or generation != self._generation:
            self._close_thing(slot, "stopped")
            return
        self._offer(slot)
        if self._keeper is None:
            self._keeper = gevent.spawn(Context().run, self._keep, generation)

    def _keep(self, generation: int) -> None:
        """Close what is too old or idle for too long, and report leaks, until the pool is empty or stopped."""
        times = [t for t in (self.limits.lifetime_seconds, self.limits.idle_seconds, self.limits.leak_seconds) if t]
        pause = min(30.0, max(0.05, min(times) / 4)) if times else 30.0
        while generation == self._generation and not self._stopped and self.size:
            gevent.sleep(pause)
            now = monotonic()
            self._report_leaks(now)
            for slot in list(self._idle):
                spare = len(self._idle) + len(self._used) > self.limits.minimum
                reason = "lifetime" if now >= slot.expires_at else "idle"
                if reason == "lifetime" or (spare and self.limits.idle_seconds and now - slot.idle_since >= self.limits.idle_seconds):
                    self._idle.remove(slot)
                    self._close_thing(slot, reason)
            self._open_as_needed()
        if generation == self._generation:
            self._keeper = None

    def _report_leaks(self, now: float) -> None:
        for slot in self._used:
            if self.limits.leak_seconds and not slot.leak_told and slot.stack and now - slot.taken_at >= self.limits.leak_seconds:
                slot.leak_told = True
                log.warning(
                    "%s: a connection is held for %.1f s and was not given back; taken by\n%s",
                    self.name, now - slot.taken_at, "".join(slot.stack),
                )  # fmt: skip

    def _forget(self) -> None:
        """In a forked child: leave the parent's things alone (neither used nor closed) and begin empty."""
        self._generation += 1
        self._idle, self._used = [], set()
        self._waiters = deque()
        self._opening = 0
        self._failures = 0
        self._keeper = None


def _forget_all() -> None:
    for pool in list(Pool._pools):
        pool._forget()


os.register_at_fork(after_in_child=_forget_all)
