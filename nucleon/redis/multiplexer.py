"""The shared connections of a worker: which one carries a command, when a new one is opened, who waits and for how long."""

import logging
import os
import random
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextvars import Context
from time import monotonic
from typing import Any

import gevent
import hiredis
from redis.exceptions import AuthenticationError

from nucleon import green, hooks
from nucleon.green.thread_numbers import thread_number
from nucleon.http.native import now
from nucleon.redis.border import Crowded, Lost, Silent
from nucleon.redis.connection import check_server, is_text, reader_for
from nucleon.redis.copies import Copies, Copy
from nucleon.redis.link import NOT_YET, Link
from nucleon.redis.settings import Settings

log = logging.getLogger("nucleon.redis")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 0.5  # back-off of connects: doubled, with jitter; the longest bounds what waiters lose
ASKS = 3  # a command is sent on so many connections at most


class OtherThread(Exception):
    """The shared connections belong to the event loop of another thread."""


class _Attempt:
    """One try to connect, and those who wait for it."""

    __slots__ = ("error", "landed")

    def __init__(self) -> None:
        self.landed = green.Event()
        self.error: Exception | None = None


class _Place:
    """A place in the line for room on a connection."""

    __slots__ = ("called", "link", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.called = green.Event()
        self.link: Link | None = None


class Multiplexer:
    """Sends commands of many greenlets over few connections.

    connect: opens a connection of redis-py, handshake done. Opened lazily; the second connection only while the first is busy with a
    large reply. A connect is tried by a greenlet of its own, with back-off and jitter, so a command that gives up disturbs nothing.
    All of it belongs to the thread that made it.
    """

    def __init__(self, settings: Settings, connect: Callable[[], Any], name: str = "redis", copies: Copies | None = None) -> None:
        self.settings = settings
        self.copies = copies
        self.name = name
        self.links: list[Link] = []
        self.opened = 0
        self.thread = thread_number()
        self._old: set[Link] = set()  # replaced ones, whose last replies are still to come
        self._current: Link | None = None
        self._connect = connect
        self._attempt: _Attempt | None = None
        self._failures = 0
        self._next_try_at = 0.0
        self._lost_at: float | None = None
        self._line: OrderedDict[_Place, None] = OrderedDict()
        _all.add(self)

    @property
    def in_flight(self) -> int:
        """How many commands wait for their reply."""
        return sum(len(link.calls) for link in self.links)

    @property
    def waiting(self) -> int:
        """How many commands wait for room."""
        return len(self._line)

    def ask(  # noqa: PLR0917  positional: this is called for every command
        self,
        data: bytes,
        wanted: int = 1,
        raws: tuple[bool, ...] | None = None,
        is_read: bool = False,
        copy: Copy | None = None,
        pairs: bool = False,
    ) -> Any:
        """Send a command (or several that want `wanted` replies) and return the reply (or their list); error replies are returned.

        raws: which replies stay bytes. is_read: it changes nothing, so that it may be sent again. copy: where the replies are kept.
        pairs: the reply is names and values, which may be given as a dict.
        Raises redis-py's `ConnectionError` and `TimeoutError` (`Lost`, `Silent`, `Crowded`), and `DeadlineExceeded`.
        """
        began = now()
        link = self._current
        asks = 0
        if link is None or not link.may_take(len(data)) or self._line:
            link = None
        while True:
            try:
                if link is None:
                    link = self._link(len(data))
                asks += 1
                return link.ask(data, wanted, raws, began, copy, pairs)
            except Lost as lost:
                if (lost.may_have_run and not is_read) or asks >= ASKS or not self._may_come_back():
                    raise
            link = None
            if monotonic() >= began + self.settings.socket_seconds:
                raise Silent(f"no reply within {self.settings.socket_seconds:g} s")

    def is_elsewhere(self) -> bool:
        """Whether the connections belong to the event loop of another thread."""
        return thread_number() != self.thread

    def is_tracking(self) -> bool:
        """Whether the next connection to be used hears of changed keys; one that is yet to be opened says so by its first reply."""
        return self._current is None or self._current.copies is not None

    def _may_come_back(self) -> bool:
        """Whether the outage is so short that waiting for its end is better than an error."""
        return bool(self.links) or (self._lost_at is not None and monotonic() < self._lost_at + self.settings.wait_seconds)

    def _link(self, size: int) -> Link:
        """Return an open connection with room, waiting for one. Raises `Lost`, `Crowded`, `OtherThread`, `DeadlineExceeded`."""
        check_server(self.settings)
        if self.is_elsewhere():
            raise OtherThread
        if len(self.links) < self.settings.shared_connections and all(link.is_stuck() for link in self.links):
            try:
                self._open()
            except (Lost, AuthenticationError):
                if not self.links:
                    raise
        best = self._best(size)
        if best is not None:
            return best
        if not self.links:
            raise Lost("the connection was closed before the command was sent", may_have_run=False)
        return self._wait_for_room(size)

    def _best(self, size: int) -> Link | None:
        """The connection with the shortest queue, those that are busy with a large reply last; None: all are full."""
        able = [link for link in self.links if link.has_room(size)]
        if self._line or not able:
            return None
        self._current = min(able, key=lambda link: (link.is_stuck(), len(link.calls)))
        return self._current

    def _wait_for_room(self, size: int) -> Link:
        place = _Place(size)
        self._line[place] = None
        for link in self.links:
            link.roomy = self._call_in
        started, is_called = monotonic(), False
        try:
            is_called = place.called.wait(self.settings.wait_seconds)
        finally:
            self._line.pop(place, None)
            link_given = place.link
            if link_given is not None:
                link_given.reserved -= 1
                link_given.reserved_bytes -= size
                if not is_called:
                    self._call_in(link_given)  # killed with the room in hand: the next in line takes it
            for listener in hooks.pool_waited.listeners:
                listener(resource=self.name, seconds=monotonic() - started, served=is_called)
        if link_given is not None and is_called:
            return link_given
        if is_called:
            raise Lost("the connection was lost before the command was sent", may_have_run=False)
        raise Crowded(f"{self.in_flight} commands are on their way and none was answered within {self.settings.wait_seconds:g} s")

    def _call_in(self, link: Link) -> None:
        """Give room that became free to the first in line."""
        while self._line:
            place = next(iter(self._line))
            if not link.has_room(place.size):
                break
            del self._line[place]
            place.link = link
            link.reserved += 1
            link.reserved_bytes += place.size
            place.called.set()
        if not self._line:
            for one in self.links:
                one.roomy = None

    def _open(self) -> None:
        """Wait for the connect that is under way, or begin one. Raises `Lost`, `AuthenticationError`, `DeadlineExceeded`."""
        attempt = self._attempt
        if attempt is None:
            attempt = self._attempt = _Attempt()
            gevent.spawn(Context().run, self._try, attempt)
        if not attempt.landed.wait(self.settings.connect_seconds + LONGEST_PAUSE_SECONDS):
            raise Lost(f"no connection within {self.settings.connect_seconds:g} s", may_have_run=False)
        if isinstance(attempt.error, AuthenticationError):
            raise AuthenticationError(str(attempt.error)) from attempt.error
        if attempt.error is not None:
            raise Lost(f"cannot connect: {attempt.error}", may_have_run=False) from attempt.error

    def _try(self, attempt: _Attempt) -> None:
        started = monotonic()
        if self._next_try_at > started:
            gevent.sleep(self._next_try_at - started)
        started = monotonic()
        connection: Any = None
        try:
            connection = self._connect()
            if self._attempt is attempt:
                self._take(connection)
                if self._failures:
                    log.warning("%s: connected again after %d failed tries", self.name, self._failures)
                self._failures = 0
                self._lost_at = None
                for listener in hooks.connection_opened.listeners:
                    listener(resource=self.name, seconds=monotonic() - started)
            else:
                connection.disconnect()  # stopped, or forked, meanwhile
        except Exception as error:  # noqa: BLE001  whatever a connect meets is told to those who wait for it
            attempt.error = error
            self._failures += 1
            longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(self._failures, 10))
            self._next_try_at = monotonic() + random.uniform(longest / 2, longest)
            if self._failures & (self._failures - 1) == 0:  # the first, second, fourth, eighth ...: an outage of an hour fills no log
                log.warning("%s: cannot connect (try %d): %s", self.name, self._failures, error)
        finally:
            if self._attempt is attempt:
                self._attempt = None
            attempt.landed.set()

    def _take(self, connection: Any) -> None:
        settings = self.settings
        self._current = Link(
            connection,
            reader_for(connection, NOT_YET, hiredis.Reader),
            patience_seconds=settings.socket_seconds,
            reply_bytes=settings.reply_bytes,
            most_calls=settings.commands_in_flight,
            most_bytes=settings.in_flight_bytes,
            ended=self._ended,
            copies=self.copies if getattr(connection, "is_tracking", False) else None,
            is_text=is_text(connection.encoder),
        )
        self.links.append(self._current)
        self.opened += 1
        if self._line:
            self._current.roomy = self._call_in
            self._call_in(self._current)

    def _ended(self, link: Link) -> None:
        self._old.discard(link)
        if self.copies is not None:
            self.copies.forget_link(link)
        if link in self.links:
            self.links.remove(link)
        if self._current is link:
            self._current = self.links[0] if self.links else None
        if not self.links:
            if not link.is_retired:
                self._lost_at = monotonic()
            self._send_off()
        for listener in hooks.connection_closed.listeners:
            listener(resource=self.name, reason=link.why)

    def _send_off(self) -> None:
        """Let those who wait for room find out for themselves whether there is a server."""
        while self._line:
            self._line.popitem(last=False)[0].called.set()

    def replace(self) -> None:
        """Send what comes from now on over new connections; the old ones close when their last reply has come."""
        if self.copies is not None:
            self.copies.clear()
        self._old.update(self.links)
        self.links, self._current = [], None
        self._lost_at = monotonic()  # for those who wait for room: it is worth asking again
        for link in list(self._old):
            link.retire()
        self._send_off()

    def stop(self) -> None:
        """Close all connections; who waits for a reply is told so. A command after that opens new ones."""
        self._attempt = None
        for link in [*self.links, *self._old]:
            link.lose("stopped")
        self._lost_at = None  # nobody asks again

    def _forget(self) -> None:
        """In a forked child: leave the parent's connections alone and begin without any."""
        for link in [*self.links, *self._old]:
            link.forget()
            link.calls.clear()
            link.ready.clear()  # whoever got a reply goes on in the parent
        if self.copies is not None:
            self.copies.clear()
        self._old.clear()
        self.links, self._current, self._attempt, self.thread = [], None, None, thread_number()
        self._line.clear()


_all: weakref.WeakSet[Multiplexer] = weakref.WeakSet()


def _forget_all() -> None:
    for multiplexer in list(_all):
        multiplexer._forget()


os.register_at_fork(after_in_child=_forget_all)
