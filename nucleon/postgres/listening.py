"""LISTEN and NOTIFY: one connection of each worker carries the channels of any number of listeners."""

import logging
import os
import random
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any

import gevent
import psycopg2
from gevent.event import Event

from nucleon.errors import DeadlineExceeded, Problem, Unavailable
from nucleon.green import seconds_left
from nucleon.pool import PermanentFailure
from nucleon.postgres.connect import check, with_deadline
from nucleon.postgres.connection import Connection

log = logging.getLogger("nucleon.postgres")

STATEMENT_SECONDS = 5.0
PING_SECONDS = 30.0  # a quiet connection is asked so often whether it lives: a black hole sends no farewell
LINGER_SECONDS = 10.0  # how long the connection outlives its last listener
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0  # of reconnects: doubled, with full jitter
CHANNEL_BYTES, PAYLOAD_BYTES = 63, 7999  # PostgreSQL's own limits (manual, NOTIFY)


@dataclass(frozen=True, slots=True)
class Notification:
    """What somebody said on a channel. sender_pid: of the session that said it, as in pg_stat_activity."""

    channel: str
    payload: str
    sender_pid: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Notifications may have been missed just before this: read the state itself again, then go on."""

    channel: str


class Listener:
    """Iterate over what is said on one channel; from `Channels.listen`, which returns when the server listens.

    `for` ends when the resource stops, and raises `DeadlineExceeded` at the deadline. A listener that is closed, left by an error
    or a kill, or forgotten unsubscribes by itself.
    """

    def __init__(self, channel: str, maximum: int, leave: Callable[["Listener"], None]) -> None:
        self.channel = channel
        self.maximum = maximum
        self.is_closed = False
        self.has_begun = False
        self.failure: Problem | None = None
        self._leave = leave
        self._items: deque[Notification | Gap] = deque()
        self._woken = Event()

    def __iter__(self) -> "Listener":
        return self

    def __next__(self) -> Notification | Gap:
        try:
            item = self.get()
        except BaseException:
            self.close()
            raise
        if item is None:
            raise StopIteration
        return item

    def get(self, timeout_seconds: float | None = None) -> Notification | Gap | None:
        """Return the next notification or gap; None: it is closed, or nothing came within `timeout_seconds`. Raises `DeadlineExceeded`."""
        ends = None if timeout_seconds is None else monotonic() + timeout_seconds
        while not self._items:
            if self.is_closed or not self.wait(None if ends is None else max(0.0, ends - monotonic())):
                return None
        return self._items.popleft()

    def wait(self, timeout_seconds: float | None) -> bool:
        """Wait until something happens to this listener; False: not within `timeout_seconds`. Raises `DeadlineExceeded`."""
        left = seconds_left(timeout_seconds)
        self._woken.clear()
        if self._woken.wait(left):
            return True
        if timeout_seconds is None or (left is not None and left < timeout_seconds):
            raise DeadlineExceeded("the deadline has passed")
        return False

    def put(self, item: Notification | Gap) -> None:
        """Hand it something; what does not fit into its queue becomes a gap."""
        if len(self._items) < self.maximum:
            self._items.append(item)
        elif not isinstance(self._items[-1], Gap):
            self._items.append(Gap(self.channel))
        self._woken.set()

    def begin(self) -> None:
        """The server listens, for the first time or again."""
        if self.has_begun:
            self.put(Gap(self.channel))
        self.has_begun = True
        self._woken.set()

    def close(self, failure: Problem | None = None) -> None:
        """Unsubscribe, without waiting. A second call does nothing."""
        if not self.is_closed:
            self.is_closed = True
            self.failure = failure
            self._leave(self)
            self._woken.set()

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Channels:
    """The listeners of a worker and the connection behind them, which is opened for the first and closed after the last."""

    _all: "weakref.WeakSet[Channels]" = weakref.WeakSet()

    def __init__(self, name: str, create: Callable[[], Connection]) -> None:
        self.name = name
        self.reconnects = 0
        self._create = create
        self._listeners: dict[str, weakref.WeakSet[Listener]] = {}
        self._active: set[str] = set()
        self._changed = Event()
        self._greenlet: gevent.Greenlet[..., Any] | None = None
        self._all.add(self)

    def listen(self, channel: str, maximum: int, wait_seconds: float) -> Listener:
        """Return a listener once the server listens.

        maximum: how many notifications it may leave unread. Raises `Unavailable` when the server cannot be reached within
        `wait_seconds`, `DeadlineExceeded`, ValueError for a name that no channel can have.
        """
        if not 0 < len(channel.encode()) <= CHANNEL_BYTES or "\0" in channel:
            raise ValueError(f"a channel's name has 1 to {CHANNEL_BYTES} bytes and no NUL: {channel!r}")
        if maximum < 1:
            raise ValueError("every queue has a bound: maximum must be at least 1")
        listener = Listener(channel, maximum, self._leave)
        self._listeners.setdefault(channel, weakref.WeakSet()).add(listener)
        if channel in self._active:
            listener.begin()
            return listener
        self._changed.set()
        if self._greenlet is None:
            self._greenlet = gevent.spawn(Context().run, self._carry)
        try:
            self._await_begin(listener, monotonic() + wait_seconds)
        except BaseException:
            listener.close()
            raise
        return listener

    def stop(self) -> None:
        """End every listener and close the connection."""
        for listener in self._everyone():
            listener.close()
        if self._greenlet is not None:
            greenlet, self._greenlet = self._greenlet, None
            greenlet.kill(timeout=1)
        self._active.clear()

    def __repr__(self) -> str:
        return f"<Channels {self.name}: {len(self._everyone())} listeners on {len(self._active)} channels, {self.reconnects} reconnects>"

    def _await_begin(self, listener: Listener, ends: float) -> None:
        while not listener.has_begun:
            if listener.is_closed:
                raise listener.failure or Unavailable(f"{self.name} is stopped")
            if not listener.wait(max(0.0, ends - monotonic())) and monotonic() >= ends:
                raise Unavailable(f"{self.name} cannot be reached: nothing can be listened to")

    def _leave(self, listener: Listener) -> None:
        known = self._listeners.get(listener.channel)
        if known is not None:
            known.discard(listener)
            if not known:
                del self._listeners[listener.channel]
                self._changed.set()

    def _everyone(self) -> list[Listener]:
        return [listener for known in self._listeners.values() for listener in known]

    def _carry(self) -> None:
        """Keep a connection while there are listeners."""
        failures = 0
        current = gevent.getcurrent()
        try:
            while self._listeners:
                connection = self._connected(failures)
                if connection is None:
                    failures += 1
                    continue
                failures = 0
                try:
                    self._serve(connection)
                except (psycopg2.Error, Problem) as error:
                    self.reconnects += 1
                    log.warning("%s: the connection that listens was lost: %s", self.name, str(error).strip().split("\n")[0])
                finally:
                    self._active.clear()
                    connection.shut()
        finally:
            if self._greenlet is current:
                self._greenlet = None

    def _connected(self, failures: int) -> Connection | None:
        if failures:
            gevent.sleep(random.uniform(0.0, min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 10))))
        try:
            return self._create()
        except PermanentFailure as error:
            for listener in self._everyone():
                if not listener.has_begun:
                    listener.close(error.problem)
            told: Exception = error
        except Exception as error:  # noqa: BLE001  those who wait have their own bound
            told = error
        log.warning("%s: cannot connect to listen (try %d): %s", self.name, failures + 1, str(told).strip().split("\n")[0])
        return None

    def _serve(self, connection: Connection) -> None:
        """Carry notifications until there are no listeners. Raises `psycopg2.Error` when the connection is lost."""
        while True:
            self._changed.clear()
            self._subscribe(connection)
            self._hand_out(connection)
            if self._wait(connection, PING_SECONDS if self._listeners else LINGER_SECONDS):
                connection.poll()
            elif not self._listeners:
                return
            else:
                check(connection, STATEMENT_SECONDS)

    def _wait(self, connection: Connection, seconds: float) -> bool:
        """Let others run until the server says something or the wishes change (True), at most `seconds`."""
        connection.ends_at = None
        connection.waiter = self._wake
        if connection.restless:
            connection.watch()
        try:
            return bool(self._changed.wait(seconds))
        finally:
            connection.waiter = None

    def _wake(self, outcome: object) -> None:
        self._changed.set()

    def _subscribe(self, connection: Connection) -> None:
        for channel in [channel for channel in self._active if channel not in self._listeners]:
            self._active.discard(channel)
            self._execute(connection, "UNLISTEN", channel)
        for channel in [channel for channel in self._listeners if channel not in self._active]:
            self._execute(connection, "LISTEN", channel)
            self._active.add(channel)
            for listener in self._listeners.get(channel, ()):
                listener.begin()

    def _execute(self, connection: Connection, command: str, channel: str) -> None:
        def send() -> None:
            with connection.cursor() as cursor:
                cursor.execute(f'{command} "{channel.replace(chr(34), chr(34) * 2)}"')

        with_deadline(connection, STATEMENT_SECONDS, send)

    def _hand_out(self, connection: Connection) -> None:
        notices, connection.notifies[:] = list(connection.notifies), []
        for notice in notices:
            item = Notification(notice.channel, notice.payload, notice.pid)
            for listener in list(self._listeners.get(notice.channel, ())):
                listener.put(item)

    def _forget(self) -> None:
        """In a forked child: the parent's listeners and connection are not ours."""
        greenlet, self._greenlet = self._greenlet, None
        if greenlet is not None:
            greenlet.kill(block=False)
        for listener in self._everyone():
            listener.close()
        self._active = set()


def _forget_all() -> None:
    for channels in list(Channels._all):
        channels._forget()


os.register_at_fork(after_in_child=_forget_all)
