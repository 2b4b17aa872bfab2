"""A parked greenlet: it runs the requests of one connection at a time, and holds nothing between them."""

import logging
from typing import Any

import gevent
from greenlet import greenlet

from nucleon.errors import DeadlineExceeded
from nucleon.green.threads import Thread, here
from nucleon.http import MalformedInput
from nucleon.server.connection import Connection, Gone
from nucleon.server.core import Core
from nucleon.server.exchange import run_exchange
from nucleon.server.problems import problem_from
from nucleon.server.states import BUSY, CLOSED, READING
from nucleon.server.wire import enter_context, leave_context

log = logging.getLogger("nucleon.server")
PIPELINE_TURN = 16  # after so many pipelined requests the others have their turn


class Worker:
    """One greenlet and the connection that it serves, None while it is parked."""

    __slots__ = ("connection", "core", "greenlet", "workers")

    def __init__(self, core: Core, workers: "set[Worker]") -> None:
        self.core = core
        self.connection: Connection | None = None
        self.greenlet: Any = greenlet(self.run, core.hub)
        self.workers = workers
        workers.add(self)

    def run(self, connection: Connection) -> None:
        """Serve the connection, then those that have requests in this turn of the hub, park, and begin again; forever."""
        core = self.core
        hub, poller = core.hub, core.poller
        thread: Thread = here.thread
        try:
            while True:
                self.connection = connection
                connection.worker = self
                core.running += 1
                try:
                    self._serve(connection)
                except BaseException:
                    connection.close()
                    raise
                finally:
                    self.connection = None
                    core.running -= 1
                    if core.draining and core.running == 0:
                        core.drained.set()
                if core.fresh:
                    return
                connection = poller.next_request()
                if connection is None:  # a parked worker holds nothing
                    core.park(self.greenlet)
                    connection = thread.leave(hub)
        finally:
            self.workers.discard(self)
            core.bury(self.greenlet)

    def _serve(self, connection: Connection) -> None:
        """Answer the request whose head is here, and those behind it."""
        count = 1
        while self._answered(connection) and self._has_next(connection):
            connection.begin()
            if self.core.fresh:
                self.core.loop.run_callback(self.core.new_worker, connection)
                return
            connection.worker = self
            if count % PIPELINE_TURN == 0:
                connection.give_way()
            count += 1

    def _has_next(self, connection: Connection) -> bool:
        """Look for another request behind an answered one; held answers leave first when there is none."""
        found = False
        try:
            if connection.pending:
                found = connection.next_head()
            if not found and connection.held:
                self._send_held(connection)
                if connection.pending and connection.state == READING:
                    found = connection.next_head()
        except MalformedInput as wrong:
            self._send_held(connection)
            connection.refuse(problem_from(wrong))
            return False
        if not found and connection.eof:
            connection.linger()
        return found

    def _answered(self, connection: Connection) -> bool:
        """Answer one request in a context of its own. True: there may be another one behind it."""
        context = enter_context()
        try:
            keep_alive = run_exchange(self.core, connection)
        finally:
            leave_context(context)
        if connection.state == CLOSED:
            return False
        if not keep_alive:
            connection.finish()
            return False
        connection.resume()
        if self.core.idle_closed:
            self._send_held(connection)
            connection.close()
            return False
        return True

    def _send_held(self, connection: Connection) -> None:
        if connection.held and connection.state != CLOSED:
            connection.state = BUSY
            try:
                connection.send(b"")
            except Gone:
                connection.close()
                return
            connection.state = READING

    def interrupt(self) -> None:
        """Tell the request that its deadline has passed. Runs in the hub."""
        self.greenlet.throw(DeadlineExceeded("the deadline has passed"))

    def leave(self) -> None:
        """The client has gone: end the request, as `kill` does. Runs in the hub."""
        if self.connection is not None:
            log.info("the client of %s has gone: the request is ended", self.connection.head)
        self.kill()

    def end_events(self) -> None:
        """The server stops: a stream of events ends, and its client connects again (WHATWG HTML 9.2.3). Runs in the hub."""
        if self.connection is not None and self.connection.is_events:
            log.info("the events of %s end with the server", self.connection.head)
            self.kill()

    def kill(self) -> None:
        """End the greenlet. Runs in the hub."""
        self.greenlet.throw(gevent.GreenletExit)
