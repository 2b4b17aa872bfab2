"""Sockets that wait in the hub: connect, listen, and host names resolved without blocking it."""

import os
import stat
from typing import Any

import gevent
import gevent.socket

from nucleon.errors import DeadlineExceeded, SetupError
from nucleon.green.deadlines import seconds_left

Address = tuple[str, int] | str
"""(host, port), or the path of a Unix socket."""


def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    """Return `getaddrinfo` entries for a TCP connection, resolved off the hub. Raises `OSError` (`socket.gaierror`)."""
    return list(gevent.socket.getaddrinfo(host, port, type=gevent.socket.SOCK_STREAM))


def connect(address: Address, timeout_seconds: float | None = None) -> gevent.socket.socket:
    """Open a stream connection within `timeout_seconds` and the deadline.

    Raises `OSError` (refused, unknown host), `TimeoutError` at `timeout_seconds`, `DeadlineExceeded` at the deadline.
    """
    left = seconds_left(timeout_seconds)
    with gevent.Timeout(left, False):  # type: ignore[arg-type]  # False means "end the block quietly"
        return _open(address)
    if timeout_seconds is not None and left == timeout_seconds:
        raise TimeoutError(f"no connection to {address} within {timeout_seconds} s")
    raise DeadlineExceeded("the deadline has passed")


def _open(address: Address) -> gevent.socket.socket:
    """Connect to the first place of a name that answers. gevent's create_connection forgets its socket when it is killed or timed out."""
    if isinstance(address, str):
        return _connected(gevent.socket.socket(gevent.socket.AF_UNIX, gevent.socket.SOCK_STREAM), address)
    last = OSError(f"{address[0]} has no address")
    for family, kind, protocol, _name, place in resolve(*address):
        try:
            return _connected(gevent.socket.socket(family, kind, protocol), place)
        except OSError as error:
            last = error
    raise last


def _connected(connection: gevent.socket.socket, place: Any) -> gevent.socket.socket:
    try:
        connection.connect(place)
        if connection.family != gevent.socket.AF_UNIX:
            connection.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


def listen(address: Address, backlog: int = 256) -> gevent.socket.socket:
    """Return a listening socket for (host, port) or a Unix socket path; a dead socket file is replaced.

    Raises `SetupError` when the address is taken or not ours.
    """
    try:
        return _listening(address, backlog)
    except OSError as error:
        raise SetupError(f"cannot listen on {address}: {error.strerror}") from error


def _listening(address: Address, backlog: int) -> gevent.socket.socket:
    if isinstance(address, str):
        if os.path.exists(address) and stat.S_ISSOCK(os.stat(address).st_mode):
            os.unlink(address)
        listener = gevent.socket.socket(gevent.socket.AF_UNIX, gevent.socket.SOCK_STREAM)
    else:
        family = gevent.socket.AF_INET6 if ":" in address[0] else gevent.socket.AF_INET
        listener = gevent.socket.socket(family, gevent.socket.SOCK_STREAM)
        listener.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener
