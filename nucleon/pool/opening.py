"""Open things for a pool: a few at a time, with back-off while it fails, and a plain answer for those who ask meanwhile."""

import copy
import logging
import math
import random
from collections.abc import Callable
from contextvars import Context
from time import monotonic
from typing import Any, Generic, TypeVar

import gevent

from nucleon.errors import Problem, Unavailable
from nucleon.hooks import connection_failed
from nucleon.pool.limits import Limits, PermanentFailure

log = logging.getLogger("nucleon.pool")

T = TypeVar("T")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0  # back-off: doubled, with full jitter, so that workers do not march in step
ASKED_SECONDS = 2 * LONGEST_PAUSE_SECONDS  # tries go on so long after the last one who was refused at once


class Opening(Generic[T]):
    """Runs `create` on greenlets of its own, so that a taker who gives up or is killed disturbs no connect.

    wanted: how many more things the pool could use now. deliver: takes a new thing and the seconds it took.
    discard: closes one that nobody wants any more. refuse: called when those who wait should not any longer.
    """

    def __init__(
        self,
        name: str,
        limits: Limits,
        *,
        create: Callable[[], T],
        wanted: Callable[[], int],
        deliver: Callable[[T, float], None],
        discard: Callable[[T], None],
        refuse: Callable[[], None],
    ) -> None:
        self.name = name
        self.limits = limits
        self.failures = 0
        self.failure: Exception | None = None
        self.generation = 0
        self._create, self._wanted, self._deliver, self._discard, self._refuse = create, wanted, deliver, discard, refuse
        self._running: set[gevent.Greenlet[..., Any]] = set()
        self._away_since = 0.0
        self._next_try_at = 0.0
        self._asked_at = -math.inf

    @property
    def running(self) -> int:
        """How many things are being opened, or wait for the next try."""
        return len(self._running)

    def open_as_needed(self) -> None:
        """Start as many greenlets as are wanted and allowed."""
        while len(self._running) < min(self._needed() + len(self._running), self.limits.parallel_connects):
            greenlet = gevent.Greenlet(Context().run, self._open, self.generation)
            self._running.add(greenlet)
            greenlet.link(self._ended)
            greenlet.start()

    def refusal(self) -> Problem | None:
        """Return what to tell at once to one who asks while nothing can come: the outage has lasted, or is permanent."""
        if not self.failures:
            return None
        if not isinstance(self.failure, PermanentFailure) and monotonic() - self._away_since < self.limits.bridge_seconds:
            return None
        self._asked_at = monotonic()
        self.open_as_needed()
        return self.problem()

    def problem(self) -> Problem:
        """Return a problem that tells the last failure; each taker gets one of his own."""
        failure = self.failure
        if isinstance(failure, PermanentFailure):
            problem = copy.copy(failure.problem)
            problem.__cause__ = failure.problem.__cause__
            return problem
        seconds = math.ceil(max(1.0, min(LONGEST_PAUSE_SECONDS, self._next_try_at - monotonic())))
        problem = Unavailable(f"{self.name} cannot be reached", retry_after_seconds=seconds)
        problem.__cause__ = failure
        return problem

    def stop(self) -> None:
        """End every try."""
        running, self._running = self._running, set()
        for greenlet in running:
            greenlet.kill(block=False)

    def forget(self) -> None:
        """In a forked child: the parent's tries are not ours."""
        self.generation += 1
        self.stop()
        self.failures = 0
        self.failure = None

    def _needed(self) -> int:
        """How many more to start now."""
        wanted = self._wanted()
        if not wanted and self.failures and not self._running and monotonic() - self._asked_at < ASKED_SECONDS:
            return 1
        return wanted

    def _ended(self, greenlet: "gevent.Greenlet[..., Any]") -> None:
        if greenlet in self._running:  # it was killed before it began
            self._running.discard(greenlet)
            self.open_as_needed()

    def _open(self, generation: int) -> None:
        current: Any = gevent.getcurrent()
        started = 0.0
        try:
            self._pause()
            started = monotonic()
            thing = self._create()
            is_expected = current in self._running
        except Exception as error:  # noqa: BLE001  told to those who ask, and tried again
            self._running.discard(current)
            if generation == self.generation:
                self._failed(error)
                self.open_as_needed()
            return
        finally:
            self._running.discard(current)
        if generation != self.generation:
            return
        if not is_expected:  # it came to its end before the kill of `stop` reached it
            self._discard(thing)
            return
        if self.failures:
            log.warning("%s: connected again after %d failed tries", self.name, self.failures)
        self.failures = 0
        self.failure = None
        self._deliver(thing, monotonic() - started)
        self.open_as_needed()

    def _pause(self) -> None:
        if self.failures:
            longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (min(self.failures, 10) - 1))
            pause = random.uniform(0.0, longest)
            self._next_try_at = monotonic() + pause
            gevent.sleep(pause)

    def _failed(self, error: Exception) -> None:
        if not self.failures:
            self._away_since = monotonic()
        self.failures += 1
        self.failure = error
        cause = error.problem.__cause__ or error if isinstance(error, PermanentFailure) else error
        log.warning("%s: cannot connect (try %d): %s", self.name, self.failures, str(cause).strip().split("\n")[0])
        for listener in connection_failed.listeners:
            listener(resource=self.name, error=cause)
        if isinstance(error, PermanentFailure) or monotonic() - self._away_since >= self.limits.bridge_seconds:
            self._refuse()
