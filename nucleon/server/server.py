"""The server of one process: listeners, connections, parked workers, one coarse timer."""

import _socket
import logging
import os
from collections.abc import Callable
from time import monotonic
from typing import Any
from weakref import WeakSet

import gevent
import gevent.event

from nucleon import wsgi
from nucleon.server.arrival import Arrival
from nucleon.server.connection import Connection, open_plain
from nucleon.server.core import Core
from nucleon.server.door import Door
from nucleon.server.poller import Poller
from nucleon.server.proxies import TrustedProxies
from nucleon.server.settings import Settings
from nucleon.server.tls import TlsWire, certificate_of
from nucleon.server.worker import Worker

log = logging.getLogger("nucleon.server")
SAID_SECONDS = 60.0  # while descriptors come and go one by one, pauses would fill the log
ACCEPT_PAUSE_SECONDS = 0.1  # out of descriptors: spinning on accept() would starve the closers
IDLE_GRACE_SECONDS = 0.5  # a kept connection may carry a request that its client has sent already
RENEWAL_SECONDS = 10.0  # how soon a new certificate is seen


class Server(Core):
    """Serves one application on any number of listening sockets, inside one gevent process."""

    def __init__(self, application: Any, settings: Settings | None = None) -> None:
        super().__init__(settings or Settings(), gevent.get_hub())
        self.application = application
        proxies = TrustedProxies(self.settings.trusted_proxies)
        self.proxies = proxies if proxies else None
        self._announcers = TrustedProxies(self.settings.proxy_protocol, "proxy_protocol")
        self._arrivals: set[Arrival] = set()
        self._certificate = certificate_of(self.settings)
        self._renew_at = monotonic() + RENEWAL_SECONDS
        respond = getattr(application, "respond", None)
        if callable(respond):
            self.respond = respond
        else:
            self.environ = wsgi.first_environ(True)
        self.new_worker = self._start_worker
        self.stand_back = self._stand_back
        self.drained = gevent.event.Event()
        self.fewer = gevent.event.Event()
        self._workers: set[Worker] = set()
        self._doors: list[Door] = []
        self._timer: Any = None
        self._pause: Any = None
        self._silent_until = 0.0  # about pauses
        self._stopped = gevent.event.Event()

    @property
    def busy(self) -> list[Connection]:
        """The connections whose requests run."""
        return [worker.connection for worker in self._workers if worker.connection is not None]

    def add_listener(self, sock: Any) -> None:
        """Serve on a listening socket (TCP or Unix, ours or inherited); it stays its owner's to close."""
        listener = _socket.socket(sock.family, sock.type, sock.proto, os.dup(sock.fileno()))
        listener.setblocking(False)
        if listener.family != _socket.AF_UNIX:
            listener.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)  # those that it accepts inherit this
        is_plain = not self._announcers and (self._certificate is None or listener.family == _socket.AF_UNIX)
        door = Door(self, listener, None if is_plain else self._welcome)
        self._doors.append(door)
        if self.accepting:
            door.open()

    def start(self, before_accepting: Callable[[], object] | None = None) -> None:
        """Start the application and accept connections. before_accepting: called in between."""
        start = getattr(self.application, "start", None)
        if callable(start):
            start()
        if before_accepting is not None:
            before_accepting()
        self.poller = Poller(self)
        _running.add(self)
        self._timer = self.loop.timer(self.interval, self.interval)
        self._timer.start(self._sweep)
        self._resume_accepting()

    def serve_forever(self) -> None:
        """Start unless started, and return after `stop`."""
        if self._timer is None:
            self.start()
        self._stopped.wait()

    def stop_accepting(self) -> None:
        """Take no more connections; those that are open go on."""
        self.accepting = False
        if self._pause is not None:
            self._pause.close()
            self._pause = None
        for door in self._doors:
            door.close()
        self._doors.clear()

    def drain(self, seconds: float | None = None) -> int:
        """Close idle connections, wait for running requests, then kill the rest. Returns how many were killed."""
        ends = monotonic() + (self.settings.drain_seconds if seconds is None else seconds)
        self.draining = True
        self._close_idle(ends)
        for worker in list(self._workers):
            self.loop.run_callback(worker.end_events)
        if self.running:
            self.drained.clear()
            self.drained.wait(max(0.0, ends - monotonic()))
        killed = [worker for worker in self._workers if worker.connection is not None]
        for worker in killed:
            assert worker.connection is not None
            log.warning("killed after the drain limit: %s", worker.connection.head or worker.connection)
            self.loop.run_callback(worker.kill)
        if killed:
            gevent.sleep(0)
        return len(killed)

    def _close_idle(self, ends: float) -> None:
        """Close kept connections after a moment: a request that is on its way gets an answer with `Connection: close`, not a reset."""
        grace_ends = min(ends, monotonic() + IDLE_GRACE_SECONDS)
        while self.connections and (left := grace_ends - monotonic()) > 0:
            self.fewer.clear()
            self.fewer.wait(left)
        self.idle_closed = True
        for arrival in list(self._arrivals):
            arrival.close()
        for connection in list(self.connections):
            if connection.is_reading:
                connection.close()

    def stop(self) -> None:
        """Close everything, stop the application, and let `serve_forever` return."""
        self.stop_accepting()
        if self._timer is not None:
            self._timer.close()
            self._timer = None
            stop = getattr(self.application, "stop", None)
            if callable(stop):
                stop()
        workers = list(self._workers)
        self.unpark_all()
        for worker in workers:
            self.loop.run_callback(worker.kill)
        if workers:
            gevent.sleep(0)
        self._close_clients()
        _running.discard(self)
        self._stopped.set()

    def abandon(self) -> None:
        """Leave every socket to the parent; this is its forked child, whose loop would take input and clients away from it."""
        self.stop_accepting()
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        self._close_clients()

    def _close_clients(self) -> None:
        for arrival in list(self._arrivals):
            arrival.close()
        for connection in list(self.connections):
            connection.close()
        if self.poller is not None:
            self.poller.close()

    def _resume_accepting(self) -> None:
        self.accepting = True
        if self._pause is not None:
            self._pause.close()
            self._pause = None
        for door in self._doors:
            door.open()

    def _welcome(self, fd: int, family: int, peer: str) -> None:
        """Begin a connection, or wait first for what its proxy says about it."""
        if self._announcers and self._announcers.trusts(peer):
            ended = self._left_arrivals
            self._arrivals.add(Arrival(self.loop, fd, family, peer=peer, since=self.tick, ready=self._introduced, ended=ended))
            self.arriving = len(self._arrivals)
        else:
            self._open(fd, family, peer)

    def _left_arrivals(self, arrival: Arrival) -> None:
        self._arrivals.discard(arrival)
        self.arriving = len(self._arrivals)

    def _introduced(self, arrival: Arrival, fd: int, client: str) -> None:
        self._left_arrivals(arrival)
        self._open(fd, arrival.family, client)

    def _open(self, fd: int, family: int, peer: str) -> None:
        """Begin a connection; over TCP it speaks TLS when there is a certificate."""
        if self._certificate is not None and family != _socket.AF_UNIX:
            connection = Connection(self, TlsWire(fd, family, self._certificate.context, peer), peer, "https")
            self.connections.add(connection)
            connection.open()
        else:
            open_plain(self, fd, family, peer)

    def _stand_back(self, error: OSError | None) -> None:
        """Stop accepting for a moment; say so, once a minute."""
        for door in self._doors:
            door.shut()
        now = monotonic()
        if now >= self._silent_until:
            self._silent_until = now + SAID_SECONDS
            log.error("accepting pauses: %s", error or f"{len(self.connections)} connections are open")
        self._pause = self.loop.timer(ACCEPT_PAUSE_SECONDS)
        self._pause.start(self._resume_accepting)

    def _start_worker(self, connection: Connection) -> None:
        Worker(self, self._workers).greenlet.switch(connection)

    def _sweep(self) -> None:
        """Once in a while: end what has waited too long. Runs in the hub."""
        self.tick += 1
        instant = monotonic()
        for connection in list(self.connections):
            connection.sweep(instant)
        for arrival in [one for one in self._arrivals if self.tick - one.since > self.head_ticks]:
            arrival.close()
        if self._certificate is not None and instant > self._renew_at:
            self._renew_at = instant + RENEWAL_SECONDS
            self._certificate.renew()

    def __repr__(self) -> str:
        open_, running = len(self.connections), self.running
        return f"<Server: {open_} connections, {running} running, {self.requests} requests, {self.parked} parked workers>"


_running: "WeakSet[Server]" = WeakSet()


def _abandon_all() -> None:
    for server in list(_running):
        server.abandon()


os.register_at_fork(after_in_child=_abandon_all)
