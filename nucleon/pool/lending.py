"""One bounded pool for any resource: fair waiters, lifetime, validation, leak report, counters.

Takers wait in one line, first come first served; a greenlet that gives back and takes again at once keeps its turn for a few
milliseconds, so that twenty short statements in a row stand in line once. Things are opened by greenlets of the pool, never by
a taker: a taker that gives up or is killed disturbs no connect, at most `parallel_connects` run at a time, and a failed one is tried
again with back-off while somebody waits. Whoever takes a slot gives it back in a `finally`; nothing in `give_back` can lose it.
`lending.pxd` gives C types to what every use runs through.
"""

import logging
import os
import random
import weakref
from collections import Counter, deque
from collections.abc import Callable
from contextvars import Context
from time import monotonic
from typing import Any

import gevent
from greenlet import getcurrent

from nucleon.errors import DeadlineExceeded, Problem, Unavailable
from nucleon.green import deadline_at
from nucleon.green.waits import Waits
from nucleon.hooks import connection_closed, connection_opened, pool_waited
from nucleon.pool.limits import Limits, PoolExhausted, SelfDeadlock
from nucleon.pool.opening import Opening
from nucleon.pool.slot import Slot, Waiter, leak_told, stack_here

log = logging.getLogger("nucleon.pool")


class Pool:
    """Lend things out, at most `limits.maximum` at a time.

    create: opens a thing; it may wait, and may raise. `PermanentFailure` ends the tries.
    close: lets a thing go without waiting.
    is_alive: tells without waiting whether a thing that was idle for so many seconds still looks well (a closed socket is seen at once).
    check: proves with a round trip that the thing works; raises when not. Asked when it was idle for `validate_after_seconds`.
    reset: makes a returned thing clean; raises or returns False when it has to be closed. May wait, bounded by itself.
    """

    def __init__(
        self,
        *,
        name: str,
        create: Callable[[], Any],
        close: Callable[[Any], None],
        is_alive: Callable[[Any, float], bool] = lambda thing, idle_seconds: True,
        check: Callable[[Any, float], None] | None = None,
        reset: Callable[[Slot], bool] = lambda slot: True,
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self.limits = limits or Limits()
        self._validate_after, self._reports_leaks = self.limits.validate_after_seconds, bool(self.limits.leak_seconds)
        self.closed_by_reason: Counter[str] = Counter()
        self.created = 0
        self._close, self._is_alive, self._check, self._reset = close, is_alive, check, reset
        self._idle: list[Slot] = []
        self._used: set[Slot] = set()
        self._waiters: deque[Waiter] = deque()
        self._waits: Waits | None = None
        self._opening: Opening[Any] = Opening(
            name, self.limits, create=create, wanted=self._wanted, deliver=self._take_in, discard=close, refuse=self._refuse_all
        )
        self._serving = False
        self._stopped = False
        self._keeper: gevent.Greenlet[..., None] | None = None
        self._pools.add(self)

    _pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()

    @property
    def size(self) -> int:
        """How many things there are, those being opened included."""
        return len(self._idle) + len(self._used) + self._opening.running

    @property
    def waiting(self) -> int:
        """How many greenlets wait for a thing."""
        return len(self._waiters)

    @property
    def in_use(self) -> int:
        """How many things are lent out."""
        return len(self._used)

    def numbers(self) -> dict[str, int]:
        """Return what a gauge shows: in_use, idle, opening, maximum, waiting, created, closed."""
        return {
            "in_use": len(self._used), "idle": len(self._idle), "opening": self._opening.running, "maximum": self.limits.maximum,
            "waiting": len(self._waiters), "created": self.created, "closed": self.closed_by_reason.total(),
        }  # fmt: skip

    def __repr__(self) -> str:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.closed_by_reason.items()))
        return (
            f"<Pool {self.name}: {len(self._used)} in use, {len(self._idle)} idle, {self._opening.running} opening "
            f"of {self.limits.maximum}; {len(self._waiters)} waiting; {self.created} created, closed: {reasons or 'none'}>"
        )

    def take(self) -> Slot:
        """Lend a thing that works, waiting in line for it.

        Raises `PoolExhausted` (503) after `wait_seconds`, `DeadlineExceeded` at the deadline, `SelfDeadlock` when nothing can come,
        `Unavailable` when no thing can be opened.
        """
        if self._idle:
            slot = self._idle[-1]
            now = monotonic()
            me = getcurrent()
            if (
                (not self._waiters or slot.is_turn_of(me, now))
                and now < slot.expires_at
                and now - slot.idle_since < self._validate_after
                and self._is_alive(slot.thing, now - slot.idle_since)
            ):
                self._idle.pop()
                return self._lend(slot, me, now)
        return self._take_slowly()

    def give_back(self, slot: Slot, broken: str | None = None, clean: bool = False) -> None:
        """Take a lent thing back and clean it; the first in line gets it.

        broken: why it is closed instead. clean: nothing has to be cleaned.
        """
        if slot not in self._used:
            return  # given back twice, or lent before a fork
        reason = broken if clean or broken is not None else self._left_dirty(slot)
        now = monotonic()
        if reason is None and now >= slot.expires_at:
            reason = slot.condemned or "lifetime"
        if reason is None and self._stopped:
            reason = "stopped"
        if reason is not None:
            self._drop(slot, reason)
            return
        self._used.discard(slot)
        slot.holder = None
        slot.touched = False
        if self._waiters:
            self._offer(slot, now)
        else:
            slot.idle_since = now
            self._idle.append(slot)

    def _left_dirty(self, slot: Slot) -> str | None:
        """Clean a thing; return why it cannot be lent again, None when it can."""
        try:
            return None if self._reset(slot) else "broken"
        except Exception:
            log.debug("%s: a returned thing could not be reset", self.name, exc_info=True)
            return "broken"
        except BaseException:
            self._drop(slot, "killed")
            raise

    def start(self) -> None:
        """Lend from now on (again, after `stop`)."""
        self._stopped = False
        self._opening.open_as_needed()

    def stop(self) -> None:
        """Close what is idle; what is lent out is closed when it comes back; those who wait get `Unavailable`."""
        self._stopped = True
        self.evict("stopped")
        self._opening.stop()
        while self._waiters:
            self._refuse(self._waiters.popleft(), Unavailable(f"{self.name} is stopped"))
        if self._keeper is not None:
            self._keeper.kill(block=False)
            self._keeper = None

    def evict(self, reason: str) -> None:
        """Close everything idle and let nothing that is lent out now come back into use."""
        for slot in self._used:
            slot.condemn(reason)
        idle, self._idle = self._idle, []
        for slot in idle:
            self._close_thing(slot, reason)

    def _lend(self, slot: Slot, holder: Any, now: float) -> Slot:
        slot.begin_turn(holder, now)
        if self._reports_leaks:
            slot.leak_told = False
            slot.stack = stack_here()
        self._used.add(slot)
        return slot

    def _take_slowly(self) -> Slot:
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

    def _next(self, ends: float, first: bool) -> Slot:
        if self._stopped:
            raise Unavailable(f"{self.name} is stopped")
        now = monotonic()
        if self._idle and (now < ends if first else not self._waiters):
            return self._lend(self._idle.pop(), getcurrent(), now)
        return self._wait(ends, first)

    def _proven(self, slot: Slot, ends: float) -> bool:
        """Whether the lent slot works; when not it has been dropped, with all that was idle as long."""
        now = monotonic()
        if now >= slot.expires_at:
            self._drop(slot, slot.condemned or "lifetime")
            return False
        try:
            alive = self._is_alive(slot.thing, now - slot.idle_since)
            if self._check is not None and not (alive and now - slot.idle_since < self._validate_after):
                # What does not look well is asked too: the bytes that can be read may be a notice, not the end.
                self._check(slot.thing, max(0.01, min(self.limits.validation_seconds, ends - now)))
                alive = True
        except Exception:  # noqa: BLE001  whatever the check met, the thing is not lent
            alive = False
        except BaseException:
            self._drop(slot, "killed")
            raise
        if not alive:
            self._drop(slot, "dead")
            if ends - now >= 0.9 * self.limits.validation_seconds:  # else the taker was in a hurry: that says little about the others
                self._drop_dead()
        return alive

    def _drop_dead(self) -> None:
        now = monotonic()
        idle, self._idle = self._idle, []
        for slot in idle:
            if now - slot.idle_since < self._validate_after and self._is_alive(slot.thing, now - slot.idle_since):
                self._idle.append(slot)
            else:
                self._close_thing(slot, "dead")

    def _wait(self, ends: float, first: bool) -> Slot:
        if len(self._waiters) >= self.limits.waiting_maximum:
            raise PoolExhausted(self._exhausted("the line is full"))
        if len(self._used) >= self.limits.maximum:
            self._refuse_self_deadlock()
        if not self._used and (refusal := self._opening.refusal()) is not None:
            raise refusal
        waiter: Waiter = Waiter()
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        self._open_as_needed()
        try:
            self._the_waits().wait(waiter.turn, max(0.0, ends - monotonic()))
        except BaseException:
            self._leave(waiter)
            if waiter.slot is not None:
                self.give_back(waiter.slot)
            raise
        if waiter.slot is not None:
            self._used.discard(waiter.slot)
            return self._lend(waiter.slot, waiter.greenlet, monotonic())
        self._leave(waiter)
        raise waiter.error or self._too_late(ends)

    def _leave(self, waiter: Waiter) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def _too_late(self, ends: float) -> Problem:
        if not self._used and (self._opening.failures or self._opening.running):
            return self._opening.problem()
        at = deadline_at.get()
        if at is not None and at <= ends:
            return DeadlineExceeded(self._exhausted("the deadline has passed"))
        problem = PoolExhausted(self._exhausted(f"none came free within {self.limits.wait_seconds:g} s"))
        problem.__cause__ = self._opening.failure  # no more could be opened
        return problem

    def _exhausted(self, why: str) -> str:
        return f"{self.name}: {why}; {len(self._used)} of {self.limits.maximum} connections in use, {len(self._waiters)} waiting"

    def _refuse_self_deadlock(self) -> None:
        me = getcurrent()
        for slot in self._used:
            if slot.holder is me:
                break
        else:
            return
        stuck = {id(waiter.greenlet) for waiter in self._waiters} | {id(me)}
        for slot in self._used:
            if id(slot.holder) not in stuck:
                return
        raise SelfDeadlock(
            f"{self.name}: this greenlet holds a connection and asks for a second, and all {self.limits.maximum} are held by greenlets "
            "that do the same: none can ever come free. Use the one that is held (the transaction's), or raise the pool's maximum"
        )

    def _offer(self, slot: Slot, now: float) -> None:
        """Keep a clean thing; the line is served when the hub comes round, unless who gave it back goes on with it (`Slot.is_turn_of`)."""
        slot.idle_since = now
        self._idle.append(slot)
        if self._waiters and not self._serving:
            self._serving = True
            gevent.get_hub().loop.run_callback(self._serve)

    def _serve(self) -> None:
        self._serving = False
        while self._waiters and self._idle:
            waiter = self._waiters.popleft()
            slot = waiter.slot = self._idle.pop()
            slot.holder = waiter.greenlet
            self._used.add(slot)
            waiter.turn.switch(None)  # this runs in the hub: it goes on at once
        self._open_as_needed()

    def _open_as_needed(self) -> None:
        if self.size < self.limits.maximum:
            self._opening.open_as_needed()

    def _refuse_all(self) -> None:
        """Wake the line with an error, unless something that is lent out may still come back for it."""
        if not self._used and not self._idle:
            while self._waiters:
                self._refuse(self._waiters.popleft(), self._opening.problem())

    def _refuse(self, waiter: Waiter, error: Problem) -> None:
        waiter.error = error
        self._the_waits().wake(waiter.turn)

    def _the_waits(self) -> Waits:
        if self._waits is None:
            self._waits = Waits()
        return self._waits

    def _drop(self, slot: Slot, reason: str) -> None:
        self._used.discard(slot)
        slot.holder = None
        self._close_thing(slot, reason)
        self._opening.open_as_needed()

    def _close_thing(self, slot: Slot, reason: str) -> None:
        self.closed_by_reason[reason] += 1
        if slot.generation == self._opening.generation:
            try:
                self._close(slot.thing)
            except Exception:
                log.debug("%s: closing failed", self.name, exc_info=True)
        for listener in connection_closed.listeners:
            listener(resource=self.name, reason=reason)

    def _wanted(self) -> int:
        """How many more things could be used now: for the line and the minimum, within the maximum."""
        if self._stopped:
            return 0
        wanted = max(len(self._waiters) - len(self._idle), self.limits.minimum - len(self._idle) - len(self._used)) - self._opening.running
        return max(0, min(wanted, self.limits.maximum - self.size))

    def _take_in(self, thing: Any, seconds: float) -> None:
        lifetime = self.limits.lifetime_seconds
        expires_at = monotonic() + lifetime * random.uniform(0.9, 1.1) if lifetime else float("inf")
        slot = Slot(thing, expires_at, self._opening.generation)
        self.created += 1
        for listener in connection_opened.listeners:
            listener(resource=self.name, seconds=seconds)
        if self._stopped:
            self._close_thing(slot, "stopped")
            return
        self._offer(slot, slot.idle_since)
        if self._keeper is None:
            self._keeper = gevent.spawn(Context().run, self._keep, self._opening.generation)

    def _keep(self, generation: int) -> None:
        """Close what is too old or idle for too long, and report leaks, until the pool is empty or stopped."""
        times = [t for t in (self.limits.lifetime_seconds, self.limits.idle_seconds, self.limits.leak_seconds) if t]
        pause = min(30.0, max(0.05, min(times) / 4)) if times else 30.0
        while generation == self._opening.generation and not self._stopped and self.size:
            gevent.sleep(pause)
            now = monotonic()
            self._report_leaks(now)
            for slot in list(self._idle):
                spare = len(self._idle) + len(self._used) > self.limits.minimum
                reason = "lifetime" if now >= slot.expires_at else "idle"
                if reason == "lifetime" or (spare and self.limits.idle_seconds and now - slot.idle_since >= self.limits.idle_seconds):
                    self._idle.remove(slot)
                    self._close_thing(slot, reason)
            self._opening.open_as_needed()
        if generation == self._opening.generation:
            self._keeper = None

    def _report_leaks(self, now: float) -> None:
        for slot in self._used:
            if self.limits.leak_seconds and not slot.leak_told and slot.stack and now - slot.taken_at >= self.limits.leak_seconds:
                slot.leak_told = True
                held = now - slot.taken_at
                log.warning("%s: a connection is held for %.1f s and was not given back; %s", self.name, held, leak_told(slot))

    def _forget(self) -> None:
        """In a forked child: leave the parent's things alone (neither used nor closed) and begin empty."""
        self._opening.forget()
        self._idle, self._used = [], set()
        self._waiters = deque()
        self._waits = None
        self._serving = False
        self._keeper = None


def _forget_all() -> None:
    for pool in list(Pool._pools):
        pool._forget()


os.register_at_fork(after_in_child=_forget_all)
