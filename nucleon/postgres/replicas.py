"""Read replicas: work that only reads goes to those that have come far enough; a dead or lagging one is left out until it is back.

A write's position in the primary's log (its LSN) travels with the client's session, so that whoever wrote reads what he wrote.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from itertools import count
from time import monotonic
from typing import Any

import gevent

from nucleon.errors import Problem, Unavailable
from nucleon.green import deadline
from nucleon.hooks import reads_only
from nucleon.pool import Pool, Slot
from nucleon.postgres.session import give_back, run

log = logging.getLogger("nucleon.postgres")

NOWHERE = 2**64 - 1  # a position that no replica reaches: read from the primary
CHECK_SECONDS = 2.0  # the longest that one look at a server may take
# The end of what is flushed, since only that is sent to replicas; the start of the postmaster tells whether a server is the primary itself.
OF_PRIMARY = "select pg_current_wal_flush_lsn()::text, pg_postmaster_start_time()::text"
OF_REPLICA = (
    "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end::text,"
    " pg_postmaster_start_time()::text, pg_is_in_recovery()"
)
AFTER_WRITES = "select pg_current_wal_insert_lsn()::text"


class Session:
    """What one request (or job) must see, and whether it may have written."""

    __slots__ = ("needed", "used_primary")

    def __init__(self, needed: int) -> None:
        self.needed = needed
        self.used_primary = False


session: ContextVar[Session | None] = ContextVar("nucleon_postgres_session", default=None)


class Replica:
    """A replica's pool, and how far the replica has come."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.position = 0
        self.is_usable = False
        self.has_caught_up = False

    def set_usable(self, is_usable: bool, why: str) -> None:
        """Use it from now on, or leave it out; a change is logged."""
        if is_usable != self.is_usable:
            self.is_usable = is_usable
            log.log(logging.INFO if is_usable else logging.WARNING, "%s: %s (%s)", self.pool.name, "used" if is_usable else "left out", why)


class ReplicatedPool(Pool):
    """The primary's pool, with replicas beside it: `take` lends one of theirs to work that only reads (`hooks.reads_only`)."""

    def __init__(self, replicas: list[Pool], *, lag_seconds: float, check_seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self.replicas = [Replica(pool) for pool in replicas]
        self.lag_seconds = lag_seconds
        self.check_seconds = check_seconds
        self._turns = count()
        self._lent: dict[Slot, Replica] = {}
        self._samples: deque[tuple[float, int]] = deque()
        self._started_at = ""
        self._goal: int | None = None
        self._watcher: gevent.Greenlet[..., Any] | None = None

    def take(self) -> Slot:
        """Lend a connection: of a replica for work that only reads, when one has come far enough, else of the primary."""
        here = session.get()
        if reads_only.get():
            slot = self._from_replica(0 if here is None else here.needed)
            if slot is not None:
                return slot
        elif here is not None:
            here.used_primary = True
        return super().take()

    def give_back(self, slot: Slot, broken: str | None = None, clean: bool = False) -> None:
        """Take a connection back, into the pool it came from."""
        replica = self._lent.pop(slot, None)
        if replica is None:
            super().give_back(slot, broken, clean=clean)
            return
        replica.pool.give_back(slot, broken, clean=clean)

    def start(self) -> None:
        """Lend from now on; look at the replicas all the time."""
        super().start()
        for replica in self.replicas:
            replica.pool.start()
        self._watch_on()

    def stop(self) -> None:
        """Close what is idle, of the primary and the replicas."""
        if self._watcher is not None:
            self._watcher.kill(block=False)
            self._watcher = None
        for replica in self.replicas:
            replica.is_usable = replica.has_caught_up = False
            replica.pool.stop()
        super().stop()

    def __repr__(self) -> str:
        told = ", ".join(f"{one.pool!r} {'used' if one.is_usable else 'left out'}" for one in self.replicas)
        return f"{super().__repr__()}, {told}"

    def position(self) -> int:
        """Ask the primary how far its log has come: whoever reads from there on sees every write that was committed before."""
        return position_from(self._asked(self._on_primary, AFTER_WRITES)[0])

    def check_replicas(self) -> None:
        """Look at every server once; called all the time by a greenlet of its own."""
        now = monotonic()
        try:
            told = self._asked(self._on_primary, OF_PRIMARY)
        except Problem:
            pass  # it is away: the replicas go on with what they have
        else:
            self._started_at = told[1]
            self._samples.append((now, position_from(told[0])))
            if self._goal is None:
                self._goal = self._samples[-1][1]
        while len(self._samples) > 1 and self._samples[1][0] < now - self.lag_seconds:
            self._samples.popleft()
        for replica in self.replicas:
            self._check_one(replica, now)

    def _check_one(self, replica: Replica, now: float) -> None:
        if replica.pool.in_use >= replica.pool.limits.maximum:
            return  # busy: what was known of it holds
        try:
            position, started_at, is_standby = self._asked(replica.pool.take, OF_REPLICA, replica.pool)
        except Problem as problem:
            replica.has_caught_up = False
            replica.set_usable(False, str(problem))
            return
        replica.position = position_from(position) if is_standby else NOWHERE - 1
        if not is_standby and started_at != self._started_at:
            replica.set_usable(False, "it is no standby")
            return
        if self._goal is None:
            return  # nobody knows yet how far it should have come
        # A replica that was not looked at for a while has to reach what the primary had at the last look before it is used.
        replica.has_caught_up = replica.has_caught_up or replica.position >= self._goal
        behind_since = next((at for at, position in self._samples if position > replica.position), now)
        behind = now - behind_since
        if not replica.has_caught_up:
            replica.set_usable(False, "it has not caught up")
        else:
            replica.set_usable(behind <= self.lag_seconds, f"{behind:.1f} s behind")

    def _from_replica(self, needed: int) -> Slot | None:
        self._watch_on()
        first = next(self._turns)
        for at in range(len(self.replicas)):
            replica = self.replicas[(first + at) % len(self.replicas)]
            if not replica.is_usable or replica.position < needed:
                continue
            try:
                slot = replica.pool.take()
            except Unavailable as problem:
                if replica.pool.in_use < replica.pool.limits.maximum:
                    replica.set_usable(False, str(problem))
                continue
            self._lent[slot] = replica
            return slot
        return None

    def _on_primary(self) -> Slot:
        return super().take()

    def _asked(self, take: Callable[[], Slot], statement: str, pool: Pool | None = None) -> Any:
        with deadline(CHECK_SECONDS):
            slot = take()
            try:
                return run(slot, statement).rows[0]
            finally:
                give_back(pool or self, slot)

    def _watch_on(self) -> None:
        if self._watcher is None and not self._stopped:
            self._watcher = gevent.spawn(Context().run, self._watch, self._opening.generation)

    def _watch(self, generation: int) -> None:
        while generation == self._opening.generation and not self._stopped:
            try:
                self.check_replicas()
            except Exception:
                log.exception("%s: looking at the replicas failed", self.name)
            gevent.sleep(self.check_seconds)

    def _forget(self) -> None:
        super()._forget()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.kill(block=False)
        self._lent = {}
        for replica in self.replicas:
            replica.is_usable = replica.has_caught_up = False


@contextmanager
def reading(after: int) -> Iterator[None]:
    """Let the block read from replicas that have come as far as `after`."""
    here = session.get()
    token = session.set(Session(max(after, here.needed if here is not None else 0)))
    only = reads_only.set(True)
    try:
        yield
    finally:
        reads_only.reset(only)
        session.reset(token)


def position_from(text: str) -> int:
    """Return a log position (`16/B374D848`) as a number."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)
