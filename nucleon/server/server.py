"""The server of one process: listeners, connections, parked workers, one coarse timer."""

import _socket
import errno
import logging
import os
import re
from collections.abc import Callable
from contextvars import Context
from time import monotonic
from typing import Any

import gevent
import gevent.event
from gevent import GreenletExit, getcurrent
from greenlet import greenlet

from nucleon import wsgi
from nucleon.errors import DeadlineExceeded, Problem, Unavailable
from nucleon.http import reply_head
from nucleon.message import Request, Response
from nucleon.server.connection import BUSY, CLOSED, READING, Connection
from nucleon.server.exchange import end_exchange, problem_response, run_exchange
from nucleon.server.proxies import TrustedProxies
from nucleon.server.settings import Settings

log = logging.getLogger("nucleon.server")
ACCEPT_PAUSE_SECONDS = 0.1  # out of descriptors: spinning on accept() would starve the closers
IDLE_GRACE_SECONDS = 0.5  # a kept connection may carry a request that its client has sent already
ACCEPT_BATCH = 32
PIPELINE_TURN = 16  # after so many pipelined requests the others have their turn
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_TIMEOUT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")


class Server:
    """Serves one application on any number of listening sockets, inside one gevent process."""

    grace_seconds = 1.0
    """How long after its deadline a request that still waits is interrupted."""

    def __init__(self, application: Any, settings: Settings | None = None) -> None:
        self.application = application
        self.settings = settings or Settings()
        self.limits = self.settings.limits()
        self.proxies = TrustedProxies(self.settings.trusted_proxies)
        respond = getattr(application, "respond", None)
        self.respond: Callable[[Request], Response] = respond if callable(respond) else wsgi.Host(application).respond
        self.hub = gevent.get_hub()
        self.loop: Any = self.hub.loop
        self.now = monotonic
        self.draining = False
        self.connections: set[Connection] = set()
        self.heads: dict[Connection, float] = {}
        self.idle: dict[Connection, float] = {}
        self.bodies: dict[Connection, float] = {}
        self.writes: dict[Connection, float] = {}
        self.lingering: dict[Connection, float] = {}
        self.busy: dict[Connection, float] = {}
        self.requests = 0
        self._parked: list[Any] = []
        self._listeners: list[_socket.socket] = []
        self._watchers: list[Any] = []
        self._timer: Any = None
        self._pause: Any = None
        self._accepting = False
        self._exhaustion_logged = False
        self._stopped = gevent.event.Event()
        self._drained = gevent.event.Event()
        self._fewer = gevent.event.Event()
        self._idle_closed = False

    def add_listener(self, sock: Any) -> None:
        """Serve on a listening socket (TCP or Unix, ours or inherited); it stays its owner's to close."""
        listener = _socket.socket(sock.family, sock.type, sock.proto, os.dup(sock.fileno()))
        listener.setblocking(False)
        self._listeners.append(listener)
        watcher = self.loop.io(listener.fileno(), 1)
        self._watchers.append(watcher)
        if self._accepting:
            watcher.start(self._accept, listener)

    def start(self) -> None:
        """Start the application and accept connections."""
        start = getattr(self.application, "start", None)
        if callable(start):
            start()
        limits = self.settings
        shortest = min(limits.head_seconds, limits.idle_seconds, limits.body_seconds, limits.write_seconds, limits.linger_seconds)
        interval = min(0.5, shortest / 2)
        self._timer = self.loop.timer(interval, interval)
        self._timer.start(self._sweep)
        self._resume_accepting()

    def serve_forever(self) -> None:
        """Start unless started, and return after `stop`."""
        if self._timer is None:
            self.start()
        self._stopped.wait()

    def stop_accepting(self) -> None:
        """Take no more connections; those that are open go on."""
        self._accepting = False
        if self._pause is not None:
            self._pause.close()
            self._pause = None
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        for listener in self._listeners:
            listener.close()
        self._watchers.clear()
        self._listeners.clear()

    def drain(self, seconds: float | None = None) -> int:
        """Close idle connections, wait for running requests, then kill the rest. Returns how many were killed."""
        ends = monotonic() + (self.settings.drain_seconds if seconds is None else seconds)
        self.draining = True
        self._close_idle(ends)
        if self.busy:
            self._drained.clear()
            self._drained.wait(max(0.0, ends - monotonic()))
        killed = list(self.busy)
        for connection in killed:
            log.warning("killed after the drain limit: %s", connection.head or connection)
            self.loop.run_callback(connection.worker.throw, GreenletExit)
        if killed:
            gevent.sleep(0)
        return len(killed)

    def _close_idle(self, ends: float) -> None:
        """Close kept connections after a moment: a request that is on its way gets an answer with `Connection: close`, not a reset."""
        grace_ends = min(ends, monotonic() + IDLE_GRACE_SECONDS)
        while self.connections and (left := grace_ends - monotonic()) > 0:
            self._fewer.clear()
            self._fewer.wait(left)
        self._idle_closed = True
        for connection in list(self.connections):
            if connection.state == READING:
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
        workers, self._parked = [*self._parked, *(connection.worker for connection in self.busy)], []
        for worker in workers:
            self.loop.run_callback(worker.throw, GreenletExit)
        if workers:
            gevent.sleep(0)
        for connection in list(self.connections):
            connection.close()
        self._stopped.set()

    def _resume_accepting(self) -> None:
        self._accepting = True
        if self._pause is not None:
            self._pause.close()
            self._pause = None
        for listener, watcher in zip(self._listeners, self._watchers, strict=True):
            if not watcher.active:
                watcher.start(self._accept, listener)

    def _accept(self, listener: _socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
            if len(self.connections) >= self.settings.max_connections:
                self._stand_back(None)
                return
            try:
                fd, address = listener._accept()  # type: ignore[attr-defined]
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._stand_back(error)
                    return
                continue  # the peer has gone already
            self._exhaustion_logged = False
            self._welcome(listener, fd, address)

    def _welcome(self, listener: _socket.socket, fd: int, address: Any) -> None:
        client = _socket.socket(listener.family, listener.type, listener.proto, fd)
        client.setblocking(False)
        peer = ""
        if listener.family != _socket.AF_UNIX:
            peer = address[0]
            client.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        connection = Connection(self, client, peer)
        self.connections.add(connection)
        self.heads[connection] = monotonic()

    def _stand_back(self, error: OSError | None) -> None:
        """Stop accepting for a moment; say so once."""
        for watcher in self._watchers:
            watcher.stop()
        if not self._exhaustion_logged:
            self._exhaustion_logged = True
            log.error("accepting pauses: %s", error or f"{len(self.connections)} connections are open")
        self._pause = self.loop.timer(ACCEPT_PAUSE_SECONDS)
        self._pause.start(self._resume_accepting)

    def dispatch(self, connection: Connection) -> None:
        """Hand a connection with a complete head to a worker. Runs in the hub."""
        self.heads.pop(connection, None)
        self.idle.pop(connection, None)
        if len(self.busy) >= self.settings.max_concurrent_requests:
            self.refuse(connection, Unavailable(f"{len(self.busy)} requests are running"))
            return
        self._begin(connection)
        worker = self._parked.pop() if self._parked else greenlet(self._work, self.hub)
        connection.worker = worker
        worker.switch(connection)

    def _begin(self, connection: Connection) -> None:
        connection.state = BUSY
        self.requests += 1
        now = monotonic()
        seconds = self.settings.deadline_seconds
        given = connection.head.fields.get("request-timeout") if connection.head else None
        if given is not None and _TIMEOUT.fullmatch(given):
            seconds = min(seconds, float(given))
        connection.overdue_at = now + seconds + self.grace_seconds
        self.busy[connection] = now

    def _work(self, connection: Connection) -> None:
        """What a worker greenlet does: one connection's requests, then park."""
        me = getcurrent()
        while True:
            try:
                self._serve(connection, me)
            except BaseException:
                connection.close()
                raise
            finally:
                self._leave(connection)
            del connection  # a parked worker holds nothing
            self._parked.append(me)
            connection = self.hub.switch()

    def _leave(self, connection: Connection) -> None:
        self.busy.pop(connection, None)
        if not self.busy:
            self._drained.set()

    def _serve(self, connection: Connection, me: Any) -> None:
        count = 0
        while connection.head is not None:
            me.gr_context = Context()  # set from inside: greenlet refuses it for a parked one whose frames are compiled
            keep_alive = run_exchange(self, connection, connection.head)
            end_exchange(connection, keep_alive)
            if connection.state != READING:
                return
            self.busy.pop(connection, None)
            if self._idle_closed:
                connection.close()
                return
            if not connection.pending and not connection.eof:
                self.idle[connection] = monotonic()
                return
            if not connection.next_head():
                if connection.eof:
                    connection.linger()
                return
            count += 1
            if count % PIPELINE_TURN == 0:
                gevent.sleep(0)
            self.heads.pop(connection, None)
            connection.worker = me
            self._begin(connection)

    def refuse(self, connection: Connection, problem: Problem) -> None:
        """Answer without the application, and close. Runs where it is called; never waits."""
        request = Request("-", "/")
        log.info("refused with %s: %s; peer %s, request id %s", problem.status, problem.detail, connection.peer or "unix", request.id)
        response = problem_response(problem, request.id)
        body = response.body if isinstance(response.body, bytes) else b""
        to_head = connection.head is not None and connection.head.method == "HEAD"
        head, framing, _ = reply_head(response.status, response.headers, len(body), keep_alive=False, to_head=to_head)
        try:
            connection.socket.send(head + body[:framing])
        except OSError:
            connection.close()
            return
        connection.linger()

    def await_head(self, connection: Connection) -> None:
        """A head has begun: from now on its clock runs, not that of idleness."""
        self.idle.pop(connection, None)
        self.heads.setdefault(connection, monotonic())

    def await_end(self, connection: Connection) -> None:
        """A closing connection lingers: only that clock runs."""
        self.idle.pop(connection, None)
        self.heads.pop(connection, None)
        self.lingering[connection] = monotonic()

    def forget(self, connection: Connection) -> None:
        """A connection has closed."""
        self.connections.discard(connection)
        self.heads.pop(connection, None)
        self.idle.pop(connection, None)
        self.lingering.pop(connection, None)
        if self.draining:
            self._fewer.set()

    def _sweep(self) -> None:
        """Once in a while: end what has waited too long. Runs in the hub."""
        now = monotonic()
        settings = self.settings
        for connection in _older(self.heads, now - settings.head_seconds):
            connection.expire_head()
        for connection in _older(self.idle, now - settings.idle_seconds) + _older(self.lingering, now - settings.linger_seconds):
            connection.close()
        for connection in _older(self.writes, now - settings.write_seconds):
            self._wake(connection)
        for connection, began in list(self.bodies.items()):
            body = connection.body
            allowed = settings.body_seconds + (body.received_bytes if body else 0) / settings.body_bytes_per_second
            if body is not None and body.waited_seconds + now - began > allowed:
                self._wake(connection)
        for connection in list(self.busy):
            if 0 < connection.overdue_at < now and connection.state == BUSY:
                connection.overdue_at = 0.0
                connection.worker.throw(DeadlineExceeded("the deadline has passed"))

    def _wake(self, connection: Connection) -> None:
        connection.late = True
        if connection.waiting is not None:
            connection.waiting.switch()

    def __repr__(self) -> str:
        open_, busy, idle = len(self.connections), len(self.busy), len(self.idle)
        return f"<Server: {open_} connections, {busy} busy, {idle} idle, {self.requests} requests, {len(self._parked)} parked workers>"


def _older(clocks: dict[Connection, float], limit: float) -> list[Connection]:
    """Return those that began before `limit`; the dictionary is ordered by time."""
    late: list[Connection] = []
    for connection, began in clocks.items():
        if began > limit:
            break
        if connection.state != CLOSED:
            late.append(connection)
    return late
