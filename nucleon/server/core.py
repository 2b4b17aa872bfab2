"""What all connections of a server share: limits, clocks, parked workers, the application."""

from collections.abc import Callable
from math import ceil
from typing import Any

from nucleon.http.malformed import Limits
from nucleon.message import Request, Response
from nucleon.server.settings import Settings


class Core:
    """The part of the server that connections and workers use for every request.

    tick: how often the timer has run; waits are counted in it, so that a request needs no clock of its own to be timed out. A wait
    of n ticks has lasted more than n - 1 intervals: nobody is cut off early, and at most one interval late.
    arriving: how many clients' proxies have not said yet who they are. stand_back: stops accepting for a moment, given the error or
    None. parked: how many workers are parked.
    holding: the connection whose answers may wait for those behind them, until its worker gives the hub its turn.
    environ: what every WSGI environ begins with, None for an application of ours.
    """

    __slots__ = (
        "_places", "accepting", "application", "arriving", "connections", "deadline_seconds", "drained", "draining", "environ", "fewer",
        "fresh", "grace_seconds", "head_ticks", "holding", "hub", "idle_closed", "idle_ticks", "interval", "limits",
        "linger_ticks", "loop", "maximum_connections", "maximum_running", "new_worker", "parked", "poller", "proxies", "requests",
        "respond", "running", "settings", "stand_back", "tick", "write_bytes_per_tick", "write_ticks",
    )  # fmt: skip

    def __init__(self, settings: Settings, hub: Any) -> None:
        waits = (settings.head_seconds, settings.idle_seconds, settings.body_seconds, settings.write_seconds, settings.linger_seconds)
        self.settings = settings
        self.limits: Limits = settings.limits()
        self.hub = hub
        self.loop: Any = hub.loop
        self.interval = min(0.5, min(waits) / 2)
        self.head_ticks = ceil(settings.head_seconds / self.interval)
        self.idle_ticks = ceil(settings.idle_seconds / self.interval)
        self.write_ticks = ceil(settings.write_seconds / self.interval)
        self.write_bytes_per_tick = max(1, int(settings.write_bytes_per_second * self.interval))
        self.fresh = settings.fresh_greenlets
        self.linger_ticks = ceil(settings.linger_seconds / self.interval)
        self.deadline_seconds = settings.deadline_seconds
        self.maximum_connections = settings.max_connections
        self.maximum_running = settings.max_concurrent_requests
        self.grace_seconds = 1.0
        self.tick = 0
        self.requests = 0
        self.running = 0
        self.accepting = False
        self.arriving = 0
        self.stand_back: Any = None
        self.draining = False
        self.idle_closed = False
        self.connections: set[Any] = set()
        self.parked = 0
        self.holding: Any = None
        self._places: list[Any] = []
        self.poller: Any = None
        self.proxies: Any = None
        self.application: Any = None
        self.environ: dict[str, Any] | None = None
        self.respond: Callable[[Request], Response] | None = None
        self.new_worker: Any = None
        self.fewer: Any = None
        self.drained: Any = None

    def park(self, worker: Any) -> None:
        """A worker's greenlet waits for a connection. Places are kept: a list that grows and shrinks costs an allocation each time."""
        if self.parked < len(self._places):
            self._places[self.parked] = worker
        else:
            self._places.append(worker)
        self.parked += 1

    def unpark(self) -> Any:
        """Return the greenlet of the worker that was parked last; it is to be switched to with a connection. There has to be one."""
        self.parked -= 1
        return self._places[self.parked]

    def bury(self, worker: Any) -> None:
        """A worker has ended: when it was parked (a timer that a handler left behind has hit it), no request goes to it any more."""
        places = self._places[: self.parked]
        if worker in places:
            places.remove(worker)
            self._places = places
            self.parked = len(places)

    def unpark_all(self) -> None:
        """Forget those who are parked."""
        self.parked = 0
        self._places.clear()

    def forget(self, connection: Any) -> None:
        """A connection has closed."""
        self.connections.discard(connection)
        if self.draining and self.fewer is not None:
            self.fewer.set()
