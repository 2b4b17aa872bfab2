"""redis-py's connections and pool, every wait of which ends at the deadline."""

from time import monotonic
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import BlockingConnectionPool, Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import ConnectionError as NoConnection
from redis.retry import Retry
from redis.utils import SENTINEL

from nucleon import green, hooks
from nucleon.errors import DeadlineExceeded, SetupError
from nucleon.redis.settings import Settings
from nucleon.redis.turns import Turns

BLOCKING = frozenset(
    ["BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT", "WAITAOF", "XREAD", "XREADGROUP"],
)
"""Commands that wait on the server for as long as their caller asked: only the deadline cuts them short."""


class _Bounded:
    """What the three kinds of connection share: time-outs that shrink to what the deadline leaves."""

    _waits_on_server = False

    def _connect(self: Any) -> Any:
        patience = self.socket_connect_timeout
        self.socket_connect_timeout = green.seconds_left(patience)
        try:
            return super()._connect()  # type: ignore[misc]
        finally:
            self.socket_connect_timeout = patience

    def send_command(self: Any, *args: Any, **options: Any) -> None:
        self._waits_on_server = args[0] in BLOCKING
        super().send_command(*args, **options)  # type: ignore[misc]

    def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:
        left = green.seconds_left(self.socket_timeout)  # nothing was sent yet: the connection stays good
        if self._sock:
            self._sock.settimeout(left)
        super().send_packed_command(command, check_health)  # type: ignore[misc]

    def read_response(self: Any, disable_decoding: bool = False, *, timeout: Any = SENTINEL, **options: Any) -> Any:
        if timeout is SENTINEL and self._sock:
            try:
                self._sock.settimeout(green.seconds_left(None if self._waits_on_server else self.socket_timeout))
            except DeadlineExceeded:
                self.disconnect()  # the reply is still to come: nobody else may read it
                raise
        try:
            return super().read_response(disable_decoding, timeout=timeout, **options)  # type: ignore[misc]
        finally:
            self._waits_on_server = False


class TcpConnection(_Bounded, Connection):
    """A connection over TCP."""


class TlsConnection(_Bounded, SSLConnection):
    """A connection over TLS."""


class UnixConnection(_Bounded, UnixDomainSocketConnection):
    """A connection over a Unix socket."""


OURS = {Connection: TcpConnection, SSLConnection: TlsConnection, UnixDomainSocketConnection: UnixConnection}


class Pool(BlockingConnectionPool):
    """A bounded pool: takers wait in line for `wait_seconds` or until the deadline. It notices a fork and begins anew."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.waiting = 0
        super().__init__(  # type: ignore[no-untyped-call]
            max_connections=settings.max_connections, timeout=settings.wait_seconds, queue_class=Turns, **connection_options(settings)
        )

    @property
    def timeout(self) -> float | None:
        """How long this greenlet may wait now. Raises `DeadlineExceeded` when nothing is left."""
        return green.seconds_left(self.settings.wait_seconds)

    @timeout.setter
    def timeout(self, _seconds: float) -> None:
        """redis-py's constructor sets it; the settings decide."""

    def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> Any:
        """Take a connection. Raises redis-py's errors, and `DeadlineExceeded`."""
        if self.settings.url is None:
            raise SetupError("Redis has no server: set REDIS_URL, or url in the settings section [redis]")
        if self.free():
            return super().get_connection()  # type: ignore[no-untyped-call]
        self.waiting += 1
        started, served = monotonic(), False
        try:
            connection = super().get_connection()  # type: ignore[no-untyped-call]
            served = True
            return connection
        except NoConnection:
            green.check()
            raise
        finally:
            self.waiting -= 1
            for listener in hooks.pool_waited.listeners:
                listener(resource="redis", seconds=monotonic() - started, served=served)

    def free(self) -> int:
        """Return how many commands could start without waiting."""
        return int(self.pool.qsize())

    def opened(self) -> int:
        """Return how many connections are open."""
        return sum(1 for connection in self._connections if connection._sock)


def connection_options(settings: Settings) -> dict[str, Any]:
    """Return keyword arguments for redis-py's pool. Raises `SetupError` for an address it cannot read."""
    try:
        options: dict[str, Any] = parse_url(settings.url.reveal() if settings.url is not None else "redis://")  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise SetupError(f"the url of Redis cannot be read: {error}") from None
    return {
        "socket_connect_timeout": settings.connect_seconds,
        "socket_timeout": settings.socket_seconds,
        "decode_responses": settings.decode_responses,
        "protocol": 2,
        "driver_info": None,  # saves two round trips for every new connection
        "retry": Retry(NoBackoff(), 0),  # a command that may have run is never sent twice
        **options,
        "connection_class": OURS[options.get("connection_class", Connection)],
    }
