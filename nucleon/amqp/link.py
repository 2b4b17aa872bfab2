"""A connection that comes back: one supervisor greenlet opens it, declares the topology and resumes the consumers."""

import logging
import math
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from copy import copy
from time import monotonic
from typing import Protocol

import gevent
import gevent.event

from nucleon import green, hooks
from nucleon.amqp.address import Address
from nucleon.amqp.connection import Connection
from nucleon.amqp.errors import AccessRefused, AmqpError, ChannelClosed, ConnectionLost, NoAnswer
from nucleon.amqp.handshake import open_connection
from nucleon.amqp.settings import Settings
from nucleon.errors import DeadlineExceeded, SetupError

log = logging.getLogger("nucleon.amqp")

REFUSAL_SECONDS = 5.0  # a refused login is not tried again by itself, and not sooner than this when somebody asks
LOCKED = 405  # an exclusive queue stays locked until the broker has noticed that our old connection died
MENDING_ATTEMPTS = 10
LIVED_SECONDS = 1.0  # a connection that dies sooner counts as a failed attempt: no hot loop with a broker that throws us out


class Dependent(Protocol):
    """Who lives on a link and has to be made whole after it was lost."""

    def resume(self, connection: Connection) -> None:
        """Begin again on this connection; may wait. Raises `AmqpError` when that is not possible."""

    def fail(self, error: AmqpError) -> None:
        """Hear that there is no way to go on."""


class Link:
    """One of the two connections of a client.

    Opened by the first `get`, and again whenever it is lost; a refused login ends the attempts until somebody asks anew.
    """

    def __init__(self, role: str, address: Address, settings: Settings, replay: Callable[["Link", Connection], None]) -> None:
        self.role = role
        self.address = address
        self.settings = settings
        self.connection: Connection | None = None
        self.dependents: set[Dependent] = set()
        self.recoveries = 0
        self._replay = replay
        self._broken: deque[tuple[Dependent, int]] = deque()  # and how often it was tried
        self._refusal: tuple[float, AmqpError | SetupError] | None = None
        self._last: Exception | None = None
        self._attempt = 0
        self._away_since: float | None = None  # when an open connection was lost, or the first try failed
        self._next_try = 0.0
        self._opened_at = float("-inf")
        self._settled = gevent.event.Event()  # set: there is a connection, or a refusal
        self._supervisor: gevent.Greenlet[..., None] | None = None
        self._is_stopped = False

    def get(self, timeout: float | None = None) -> Connection:
        """Return the open connection, waiting up to `timeout` seconds while it is opened.

        Without a timeout: up to `wait_seconds`, but not longer than an outage of `bridge_seconds`; while it lasts, not at all.
        Raises `ConnectionLost`, `AccessRefused`, `SetupError`, and `DeadlineExceeded` at the deadline.
        """
        connection = self.connection
        if connection is not None:
            return connection
        patience = self.settings.wait_seconds if timeout is None else timeout
        until = monotonic() + patience
        while True:
            self._raise_refusal()
            if self._is_stopped:
                raise ConnectionLost("the client of RabbitMQ was stopped")
            self._supervise()
            left = green.seconds_left(until - monotonic())
            if left is not None and left <= 0:
                raise ConnectionLost(f"no connection to RabbitMQ within {patience:g} s: {self._last or 'no answer yet'}")
            self._settled.wait(left if timeout is not None else self._bridged(left))
            if self.connection is not None:
                return self.connection

    def _bridged(self, seconds: float | None) -> float | None:
        """Return how long to wait of these seconds, before it is asked again. Raises `ConnectionLost` when the outage is a long one."""
        if self._away_since is None:
            return seconds  # the first failed try wakes
        now = monotonic()
        left = self._away_since + self.settings.bridge_seconds - now
        if left <= 0:
            pause = max(0.0, self._next_try - now)
            away = f"no connection to RabbitMQ for {now - self._away_since:.1f} s: {self._last}; next attempt in {pause:.1f} s"
            raise ConnectionLost(away, max(1, math.ceil(pause)))
        return left if seconds is None else min(left, seconds)

    def _raise_refusal(self) -> None:
        if self._refusal is not None:
            since, error = self._refusal
            if monotonic() - since < REFUSAL_SECONDS:
                raise copy(error)
            self._refusal = None
            self._settled.clear()

    def repair(self, dependent: Dependent) -> None:
        """Resume one dependent whose channel has gone, while the connection is well. Called in the loop."""
        self._broken.append((dependent, 0))
        self._supervise()

    def stop(self) -> None:
        """Close the connection and never open another."""
        connection = self._given_up()
        if connection is not None:
            connection.close()

    def drop(self) -> None:
        """Close the socket without a word, and never open another: after a fork the connection is the parent's."""
        connection = self._given_up()
        if connection is not None:
            connection.drop()

    def _given_up(self) -> Connection | None:
        self._is_stopped = True
        self._settled.set()
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.kill()
        connection, self.connection = self.connection, None
        return connection

    def _supervise(self) -> None:
        if self._supervisor is None and not self._is_stopped:
            # an empty context: the deadline of the request that came first is not that of the connection
            self._supervisor = gevent.spawn(Context().run, self._work)

    def _work(self) -> None:
        try:
            while not self._is_stopped and (self.connection is None or self._broken):
                try:
                    self._step()
                except (AccessRefused, SetupError) as error:
                    self._refused(error)
                    return
                except Exception as error:  # a fault of ours must not end the supervision
                    log.exception("%s connection: a fault while it was opened", self.role)
                    self._pause(error)
        finally:
            self._supervisor = None

    def _step(self) -> None:
        """Do the next thing that is to be done: open the connection, or mend what lives on it."""
        connection = self.connection
        if connection is None:
            self._open()
            return
        dependent, attempt = self._broken.popleft()
        if attempt:
            gevent.sleep(min(0.1 * 2**attempt, self.settings.retry_maximum_seconds))
        if self.connection is connection:
            with suppress(ConnectionLost):  # lost again: the next step opens it, which resumes all
                self._mend(dependent, connection, attempt)

    def _open(self) -> None:
        """Connect until it succeeds, declare and resume; one failure more or less does not stop the others."""
        self._settled.clear()
        if monotonic() - self._opened_at > LIVED_SECONDS:
            self._attempt = 0
        else:
            self._pause("it died as soon as it was open")
        while True:
            begun = monotonic()
            try:
                connection = self._connect()
                break
            except ConnectionLost as error:
                if isinstance(error, AccessRefused):
                    raise
                self._last = error
                self._pause(error)
        self._opened_at = monotonic()
        for listener in hooks.connection_opened.listeners:
            listener(resource=f"amqp {self.role}", seconds=monotonic() - begun)
        self._broken.clear()  # all are resumed now
        try:
            self._replay(self, connection)
            for dependent in list(self.dependents):
                self._mend(dependent, connection)
        except (AmqpError, DeadlineExceeded) as error:
            self._last = error
            log.warning("%s connection: not ready: %s", self.role, error)
            connection.drop()
            return
        except BaseException:
            connection.drop()
            raise
        if connection.error is None:
            self.connection = connection
            self._away_since = None
            self.recoveries += 1
            self._settled.set()
            if self._last is not None:
                log.warning("%s connection: it is open again", self.role)
                self._last = None

    def _pause(self, why: object) -> None:
        """Wait before the next attempt: longer each time, with jitter."""
        pause = min(self.settings.retry_maximum_seconds, self.settings.retry_minimum_seconds * 2 ** min(self._attempt, 20))
        pause *= random.uniform(0.5, 1.0)
        log.warning("%s connection: %s; next attempt in %.1f s", self.role, why, pause)
        self._attempt += 1
        self._next_try = monotonic() + pause
        if self._away_since is None:
            self._away_since = monotonic()
        self._settled.set()  # who waits looks again how long this lasts
        self._settled.clear()
        gevent.sleep(pause)

    def _connect(self) -> Connection:
        hosts = list(self.address.hosts)
        random.shuffle(hosts)
        last: ConnectionLost | None = None
        for host in hosts:
            try:
                return Connection(open_connection(self.address, host, self.settings, self.role), self.settings, self._ended)
            except AccessRefused:
                raise
            except ConnectionLost as error:
                last = error
        assert last is not None
        raise last

    def _mend(self, dependent: Dependent, connection: Connection, attempt: int = 0) -> None:
        """Resume one dependent: what passes is tried again behind the others, what does not is its own affair.

        Raises `ConnectionLost` when all is lost again.
        """
        try:
            dependent.resume(connection)
        except ConnectionLost:
            if connection.error is not None:
                raise
            self._broken.append((dependent, attempt + 1))
        except (AmqpError, DeadlineExceeded) as error:
            may_pass = isinstance(error, NoAnswer) or (isinstance(error, ChannelClosed) and error.code == LOCKED)
            log.warning("%r %s: %s", dependent, "is tried again" if may_pass and attempt < MENDING_ATTEMPTS else "cannot go on", error)
            if may_pass and attempt < MENDING_ATTEMPTS:
                self._broken.append((dependent, attempt + 1))
            else:
                dependent.fail(error if isinstance(error, AmqpError) else ConnectionLost(str(error)))

    def _ended(self, error: AmqpError | None) -> None:
        """The connection died; runs in the loop. Opened again at once when it was in use."""
        was_open, self.connection = self.connection is not None, None
        if error is not None:
            self._last = error
            self._away_since = self._away_since or monotonic()
            log.warning("%s connection: %s", self.role, error)
        for listener in hooks.connection_closed.listeners:
            listener(resource=f"amqp {self.role}", reason=str(error or "closed here"))
        if was_open:
            self._settled.clear()
            self._supervise()

    def _refused(self, error: AccessRefused | SetupError) -> None:
        log.error("%s connection: %s; not tried again until it is asked for", self.role, error)
        self._refusal = (monotonic(), error)
        for dependent in list(self.dependents):
            dependent.fail(error if isinstance(error, AmqpError) else ConnectionLost(str(error)))
        self._settled.set()

    def __repr__(self) -> str:
        if self.connection is not None:
            return repr(self.connection)
        if self._is_stopped:
            return f"<{self.role} connection stopped>"
        return f"<{self.role} connection: {self._last}>" if self._last is not None else f"<{self.role} connection not opened yet>"
