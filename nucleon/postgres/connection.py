"""A psycopg2 connection that waits in the hub, knows the deadline, and ends its SQL on the server when it is left."""

import os
import select
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
import psycopg2
import psycopg2.extensions
import psycopg2.extras
from gevent import monkey
from gevent.exceptions import BlockingSwitchOutError
from greenlet import getcurrent
from psycogreen.gevent import gevent_wait_callback

from nucleon.errors import DeadlineExceeded
from nucleon.green import deadline_at
from nucleon.green.threads import here
from nucleon.postgres.cancelling import cancel

POLL_OK, POLL_READ, POLL_WRITE = psycopg2.extensions.POLL_OK, psycopg2.extensions.POLL_READ, psycopg2.extensions.POLL_WRITE
READABLE, WRITABLE = 1, 2  # libev's event bits
_poll: Callable[[], Any] = monkey.get_original("select", "poll")
TICK_SECONDS = 0.02  # a timer for each wait would cost more than the wait; deadlines are kept to this
QUIET_TICKS = 25
GLANCE_SECONDS = 0.001

_expired = object()
READY = object()
_callback: Callable[[], Any] = psycopg2.extensions.get_wait_callback


class Connection(psycopg2.extensions.connection):
    """One session. `expired`: the deadline ended its last statement. `suspect`: close it, a late cancel may still hit it, or it is
    `misplaced`: on a server that takes no writes. `is_replica`: it is meant to be on such a server.

    Its read watcher is armed as long as it is open (starting one for each wait costs more than the wait): when bytes come it wakes the
    greenlet that waits, and when nobody does the connection is `restless`: the server said something unasked, most likely farewell.
    """

    expired = False
    suspect = False
    misplaced = False
    is_replica = False
    opened_by = 0
    established = False
    restless = False
    ends_at: float | None = None
    grace_ends_at: float | None = None
    cancel_grace_seconds = 0.5
    waiter: Callable[[object], Any] | None = None
    scribe: Any = None
    probe: Callable[[int], Any]
    _reader: Any = None

    def shut(self) -> None:
        """Close without waiting; ends the statement that may still run. In a forked child the parent's session is left alone."""
        self.stop_watching()
        self.scribe = None
        if not self.closed and self.opened_by == os.getpid():
            self.close()

    def end_statement(self) -> None:
        """Ask the server to end what runs; the answer comes as the statement's."""
        cancel(self)

    def expire(self) -> float:
        """End the statement at its deadline; return the instant until which its end is waited for."""
        self.expired = self.suspect = True
        self.end_statement()
        # The pool's own statements (rollback, reset, check) have had their time: the connection is closed.
        return monotonic() + (self.cancel_grace_seconds if self.grace_ends_at is None else 0.0)

    def is_misplaced(self) -> bool:
        """Tell, after a refused write, whether the server is at fault (a standby, or set read-only), and remember it."""
        told = [self.get_parameter_status(name) for name in ("in_hot_standby", "default_transaction_read_only")]
        if "on" in told and not self.is_replica:
            self.suspect = self.misplaced = True
        return self.misplaced

    def watch(self) -> None:
        """Arm the read watcher."""
        self.restless = False
        if self._reader is None:
            poller = _poll()
            poller.register(self.fileno(), select.POLLIN)
            self.probe = poller.poll
            self._reader = gevent.get_hub().loop.io(self.fileno(), READABLE)
        self._reader.start(self._readable)

    def stop_watching(self) -> None:
        """Let the read watcher go: the socket is closed, or will be."""
        if self._reader is not None:
            self._reader.stop()
            self._reader.close()
            self._reader = None

    def _readable(self) -> None:
        if self.waiter is not None:
            try:
                self.waiter(READY)
            except BaseException:  # it went on and ended so: gevent stops the watcher of a callback that raises
                self.restless = True
                raise
        else:
            self.restless = True
            self._reader.stop()


def wait(connection: psycopg2.extensions.connection) -> None:
    """The wait callback of psycopg2: ours wait until the deadline, those of others as psycogreen does it."""
    if not isinstance(connection, Connection) or not connection.established:
        _wait_elsewhere(connection)
        return
    at = deadline_at.get() if connection.grace_ends_at is None else connection.grace_ends_at
    cancelled = False
    try:
        while (state := connection.poll()) != POLL_OK:
            if connection.restless:
                connection.watch()
            ready = sleep(connection, at) is READY if state == POLL_READ else wait_for_room(connection, at)
            if ready:
                continue
            if cancelled:
                raise DeadlineExceeded("the database did not answer a cancel")
            cancelled = True
            at = connection.expire()
    except BaseException:
        if not cancelled:
            connection.end_statement()  # a kill: psycopg2 closes the connection now, but the SQL would run on
        connection.stop_watching()  # before the socket is closed and its number is somebody else's
        raise


def _wait_elsewhere(connection: psycopg2.extensions.connection) -> None:
    if isinstance(connection, Connection):
        _wait_for_greeting(connection)
    else:
        gevent_wait_callback(connection)


def install() -> None:
    """Make `wait` the wait callback of the process."""
    if psycopg2.extensions.get_wait_callback() is not wait:
        psycopg2.extensions.set_wait_callback(wait)


def open_connection(dsn: str, seconds: float, cancel_grace_seconds: float) -> Connection:
    """Connect to one address within `seconds`. Raises `psycopg2.OperationalError`, `DeadlineExceeded`."""
    install()
    token = deadline_at.set(monotonic() + seconds)
    try:
        connection: Connection = psycopg2.connect(dsn, connection_factory=Connection)
        connection.autocommit = True
    finally:
        deadline_at.reset(token)
    connection.cancel_grace_seconds = cancel_grace_seconds
    connection.opened_by = os.getpid()
    connection.watch()
    connection.established = True
    return connection


def is_alive(connection: Connection, idle_seconds: float) -> bool:
    """Tell without waiting whether an idle connection is silent, as it must be: a readable one was closed by the server.

    The socket is asked, for the hub may not have come round to it since the bytes came; not within the millisecond after its last use.
    """
    if _callback() is not wait:
        install()  # somebody has put another callback over ours, which would wait past the deadline
    return not (connection.closed or connection.restless or (idle_seconds > GLANCE_SECONDS and connection.probe(0)))


class _Clock:
    """Wakes the connections whose time is over: one coarse timer for all, at rest while nobody waits."""

    def __init__(self) -> None:
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._timer: Any = None
        self._quiet_ticks = 0
        self.ticking = False

    def add(self, connection: Connection) -> None:
        self._connections.add(connection)

    def start(self) -> None:
        self.ticking = True
        self._quiet_ticks = 0
        self._timer = gevent.get_hub().loop.timer(TICK_SECONDS, TICK_SECONDS)
        self._timer.start(self._tick)

    def _tick(self) -> None:
        now = monotonic()
        self._quiet_ticks += 1
        for connection in list(self._connections):
            waiter, at = connection.waiter, connection.ends_at
            if waiter is not None and at is not None:
                self._quiet_ticks = 0
                if at <= now:
                    waiter(_expired)
        if self._quiet_ticks > QUIET_TICKS:
            self._timer.close()
            self.ticking = False

    def forget(self) -> None:
        """In a forked child: the parent's waits are not ours."""
        for connection in self._connections:
            connection.waiter = None
            connection.stop_watching()
        self._connections = weakref.WeakSet()
        self._timer = None
        self.ticking = False


_clock = _Clock()
os.register_at_fork(after_in_child=_clock.forget)


def _wait_until(connection: Connection, watcher: Any, at: float | None) -> bool:
    """Let others run until the watcher fires (True) or the instant `at` has come (False)."""
    watcher.start(getcurrent().switch, READY)
    try:
        return sleep(connection, at) is READY
    finally:
        watcher.stop()


def sleep(connection: Connection, at: float | None) -> object:
    """Let others run until `connection.waiter` is called, by the clock at the instant `at`, and return what it was called with."""
    connection.ends_at = at
    if at is not None and not _clock.ticking:
        _clock.start()
    hub, current = gevent.get_hub(), getcurrent()
    if current is hub:  # a callback of the loop: it would wait for itself
        raise BlockingSwitchOutError("a statement cannot wait in the event loop itself: spawn a greenlet for it")
    connection.waiter = current.switch
    try:
        while True:
            given: object = here.thread.leave(hub)
            if given is READY or given is _expired:
                return given  # what else switched here meant something that this greenlet waited for earlier
    finally:
        connection.waiter = None


def _wait_for_greeting(connection: Connection) -> None:
    at = deadline_at.get()
    loop = gevent.get_hub().loop
    _clock.add(connection)
    while (state := connection.poll()) != POLL_OK:
        watcher = loop.io(connection.fileno(), READABLE if state == POLL_READ else WRITABLE)
        try:
            if not _wait_until(connection, watcher, at):
                raise DeadlineExceeded("no connection to the database within the time allowed")
        finally:
            watcher.close()


def wait_for_room(connection: Connection, at: float | None) -> bool:
    """Wait until there is room to send."""
    # libpq reads meanwhile, or two full buffers would face each other for ever
    watcher = gevent.get_hub().loop.io(connection.fileno(), WRITABLE)  # the reader is armed anyway
    try:
        return _wait_until(connection, watcher, at)
    finally:
        watcher.close()
