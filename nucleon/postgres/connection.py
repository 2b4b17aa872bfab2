"""A psycopg2 connection that waits in the hub, knows the deadline, and ends its SQL on the server when it is left."""

import ctypes
import os
import select
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
import psycopg2
import psycopg2._psycopg
import psycopg2.extensions
import psycopg2.extras
from gevent import monkey
from greenlet import getcurrent
from psycogreen.gevent import gevent_wait_callback

from nucleon.errors import DeadlineExceeded
from nucleon.green import deadline_at

POLL_OK, POLL_READ, POLL_WRITE = psycopg2.extensions.POLL_OK, psycopg2.extensions.POLL_READ, psycopg2.extensions.POLL_WRITE
READABLE, WRITABLE = 1, 2  # libev's event bits
TICK_SECONDS = 0.02  # a timer for each wait would cost more than the wait; deadlines are kept to this
CANCELS_MAXIMUM = 4  # a black hole may hold each for minutes in a native thread

_expired = object()
_ready = object()
_poll: Callable[[], Any] = monkey.get_original("select", "poll")
_start_thread: Callable[..., int] = monkey.get_original("_thread", "start_new_thread")
_cancels = 0
_library = ctypes.PyDLL(psycopg2._psycopg.__file__)
_library_without_lock = ctypes.CDLL(psycopg2._psycopg.__file__)
_library.PQgetCancel.restype = ctypes.c_void_p
_library.PQgetCancel.argtypes = [ctypes.c_void_p]
_library.PQfreeCancel.argtypes = [ctypes.c_void_p]
_library_without_lock.PQcancel.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]


class Connection(psycopg2.extensions.connection):
    """One session. `expired`: the deadline ended its last statement. `suspect`: a late cancel may still hit it, close it."""

    expired = False
    suspect = False
    established = False
    ends_at: float | None = None
    grace_ends_at: float | None = None
    cancel_grace_seconds = 0.5
    _reader: Any = None

    def shut(self) -> None:
        """Close without waiting; ends the statement that may still run."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if not self.closed:
            self.close()


def wait(connection: psycopg2.extensions.connection) -> None:
    """The wait callback of psycopg2: ours wait until the deadline, those of others as psycogreen does it."""
    if isinstance(connection, Connection):
        if connection.established:
            _wait_for_answer(connection)
        else:
            _wait_for_greeting(connection)
    else:
        gevent_wait_callback(connection)


def install() -> None:
    """Make `wait` the wait callback of the process."""
    if psycopg2.extensions.get_wait_callback() is not wait:
        psycopg2.extensions.set_wait_callback(wait)


def open_connection(dsn: str, seconds: float, cancel_grace_seconds: float, **options: str) -> Connection:
    """Connect within `seconds`. Raises `psycopg2.OperationalError`, `DeadlineExceeded`."""
    install()
    token = deadline_at.set(monotonic() + seconds)
    try:
        keywords: dict[str, Any] = options
        connection: Connection = psycopg2.connect(dsn, connection_factory=Connection, **keywords)
        connection.autocommit = True
    finally:
        deadline_at.reset(token)
    connection.cancel_grace_seconds = cancel_grace_seconds
    loop = gevent.get_hub().loop
    connection._reader = loop.io(connection.fileno(), READABLE)
    connection.established = True
    return connection


def is_alive(connection: Connection) -> bool:
    """Tell without waiting whether an idle connection is silent, as it must be: a readable one was closed by the server."""
    if connection.closed:
        return False
    poll = _poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


class _Clock:
    """Wakes the connections whose time is over: one coarse timer for all, ticking only while somebody waits."""

    def __init__(self) -> None:
        self._waiting: dict[Connection, Callable[[object], Any]] = {}
        self._timer: Any = None

    def watch(self, connection: Connection, switch: Callable[[object], Any]) -> None:
        self._waiting[connection] = switch
        if self._timer is None:
            self._timer = gevent.get_hub().loop.timer(TICK_SECONDS, TICK_SECONDS)
            self._timer.start(self._tick)

    def leave(self, connection: Connection) -> None:
        self._waiting.pop(connection, None)

    def _tick(self) -> None:
        if not self._waiting:
            self._timer.close()
            self._timer = None
            return
        now = monotonic()
        for connection, switch in list(self._waiting.items()):
            if connection in self._waiting and connection.ends_at is not None and connection.ends_at <= now:
                switch(_expired)

    def forget(self) -> None:
        """In a forked child: the parent's waits are not ours."""
        self._waiting = {}
        self._timer = None


_clock = _Clock()
os.register_at_fork(after_in_child=_clock.forget)


def _wait_until(connection: Connection, watcher: Any, at: float | None) -> bool:
    """Let others run until the watcher fires (True) or the instant `at` has come (False)."""
    switch = getcurrent().switch
    if at is not None:
        if at <= monotonic():
            return False
        connection.ends_at = at
        _clock.watch(connection, switch)
    watcher.start(switch, _ready)
    try:
        outcome = gevent.get_hub().switch()
    finally:
        watcher.stop()
        if at is not None:
            _clock.leave(connection)
    return outcome is _ready


def _wait_for_greeting(connection: Connection) -> None:
    at = deadline_at.get()
    loop = gevent.get_hub().loop
    while (state := connection.poll()) != POLL_OK:
        watcher = loop.io(connection.fileno(), READABLE if state == POLL_READ else WRITABLE)
        try:
            if not _wait_until(connection, watcher, at):
                raise DeadlineExceeded("no connection to the database within the time allowed")
        finally:
            watcher.close()


def _wait_for_answer(connection: Connection) -> None:
    at = connection.ends_at = deadline_at.get() if connection.grace_ends_at is None else connection.grace_ends_at
    poll = connection.poll
    cancelled = False
    try:
        while (state := poll()) != POLL_OK:
            if state == POLL_READ:
                ready = _wait_until(connection, connection._reader, at)
            else:
                ready = _wait_for_room(connection, at)
            if ready:
                continue
            if cancelled:
                raise DeadlineExceeded("the database did not answer a cancel")
            cancelled = True
            connection.expired = connection.suspect = True
            cancel(connection)
            at = monotonic() + connection.cancel_grace_seconds
    except BaseException:
        if not cancelled:
            cancel(connection)  # a kill: psycopg2 closes the connection now, but the SQL would run on
        raise


def _wait_for_room(connection: Connection, at: float | None) -> bool:
    # The socket is full: libpq sends, and reads meanwhile, or two full buffers would face each other for ever.
    watcher = gevent.get_hub().loop.io(connection.fileno(), READABLE | WRITABLE)
    try:
        return _wait_until(connection, watcher, at)
    finally:
        watcher.close()


def cancel(connection: Connection) -> None:
    """Ask the server to end what this session runs, from a native thread; returns at once, the answer comes on the connection.

    psycopg2's own `cancel()` holds the interpreter lock while it connects, so a black hole would stop the whole process.
    """
    global _cancels
    if _cancels >= CANCELS_MAXIMUM or connection.closed:
        return
    handle = _library.PQgetCancel(connection.pgconn_ptr)
    if handle:
        _cancels += 1
        _start_thread(_send_cancel, (handle,))


def _send_cancel(handle: int) -> None:
    global _cancels
    try:
        _library_without_lock.PQcancel(handle, ctypes.create_string_buffer(256), 256)
    finally:
        _library.PQfreeCancel(handle)
        _cancels -= 1
