"""Ask the server to end a statement, from native threads: a black hole must not stop the process.

psycopg2's own `cancel()` holds the interpreter lock while it connects. libpq 17 and newer encrypt the request as the
session is encrypted and keep to `connect_timeout` (PQcancelBlocking); older ones know only PQcancel.
"""

import ctypes
import os
from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg2._psycopg
import psycopg2.extensions
from gevent import monkey

THREADS_MAXIMUM = 4
WAITING_MAXIMUM = 1000  # more statements than any pool has; a flood beyond is ended by the closing of its connections

_start_thread: Callable[..., int] = monkey.get_original("_thread", "start_new_thread")
_new_lock: Callable[[], Any] = monkey.get_original("_thread", "allocate_lock")
_library = ctypes.PyDLL(psycopg2._psycopg.__file__)
_library_without_lock = ctypes.CDLL(psycopg2._psycopg.__file__)
_ENCRYPTS = hasattr(_library, "PQcancelCreate")
_create, _finish = ("PQcancelCreate", "PQcancelFinish") if _ENCRYPTS else ("PQgetCancel", "PQfreeCancel")
_make_handle, _free_handle = getattr(_library, _create), getattr(_library_without_lock, _finish)
_make_handle.restype, _make_handle.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
_free_handle.restype, _free_handle.argtypes = None, [ctypes.c_void_p]
if _ENCRYPTS:
    _library_without_lock.PQcancelBlocking.argtypes = [ctypes.c_void_p]
else:
    _library_without_lock.PQcancel.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]


class Canceller:
    """Sends cancel requests in the order they came, on a few threads that end when there is nothing to do."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a forked child: the parent's threads are not here."""
        self._lock = _new_lock()
        self._handles: deque[int] = deque()
        self._threads = 0

    def cancel(self, connection: psycopg2.extensions.connection) -> None:
        """Ask the server to end what this session runs; returns at once, the answer comes on the connection."""
        if connection.closed or len(self._handles) >= WAITING_MAXIMUM:
            return
        handle = _make_handle(connection.pgconn_ptr)
        if not handle:
            return
        with self._lock:
            self._handles.append(handle)
            if self._threads == THREADS_MAXIMUM:
                return
            self._threads += 1
        _start_thread(self._work, ())

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._handles:
                    self._threads -= 1
                    return
                handle = self._handles.popleft()
            try:
                _send(handle)
            finally:
                _free_handle(handle)


def _send(handle: int) -> None:
    if _ENCRYPTS:
        _library_without_lock.PQcancelBlocking(handle)
    else:
        _library_without_lock.PQcancel(handle, ctypes.create_string_buffer(256), 256)


canceller = Canceller()
cancel = canceller.cancel
os.register_at_fork(after_in_child=canceller.forget)
