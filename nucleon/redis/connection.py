"""redis-py's connections and pool, every wait of which ends at the deadline."""

from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, TypeVar

import gevent
import hiredis
from gevent import monkey
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _HiredisParser
from redis.backoff import NoBackoff
from redis.connection import BlockingConnectionPool, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import AuthenticationError, InvalidResponse, ReadOnlyError
from redis.exceptions import ConnectionError as NoConnection
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel
from redis.utils import SENTINEL

from nucleon import green, hooks
from nucleon.errors import DeadlineExceeded, SetupError
from nucleon.green.thread_numbers import thread_number
from nucleon.redis.address import options_from
from nucleon.redis.border import Crowded, Lost, ReplyTooLarge
from nucleon.redis.commands import FOREVER, is_stateful, seconds_on_server
from nucleon.redis.settings import Settings
from nucleon.redis.turns import Turns

Place = tuple[str, int]


R = TypeVar("R", bound=hiredis.Reader)


class BoundedReader(hiredis.Reader):
    """hiredis's reader that refuses replies of more than `limit_bytes`."""

    limit_bytes = 0
    not_yet: object = None
    _partial = 0

    def feed(self, *piece: Any) -> None:
        """Take octets from the server. Raises `ReplyTooLarge`."""
        self._partial += piece[2] if len(piece) == 3 else len(piece[0])
        if self._partial > self.limit_bytes:
            raise ReplyTooLarge(f"a reply is larger than reply_bytes ({self.limit_bytes})")
        super().feed(*piece)

    def gets(self, *decode: bool) -> Any:
        """Return the next reply, or what the reader was told to give when there is none."""
        reply = super().gets(*decode)
        if reply is not self.not_yet:
            self._partial = 0
        return reply


class _Bounded:
    """What the three kinds of connection share: time-outs that shrink to what the deadline leaves, and a bounded reply.

    places: says where the server is just now (Sentinel); then the server must call itself master.
    """

    _seconds_on_server = 0.0
    _is_greeting = False
    _waits: deque[float] = deque()
    """The same for each reply of a pipeline that is still to come."""
    is_soiled = False
    """It was told to be something else than it began as: closed when it is given back."""

    def __init__(self: Any, *, reply_bytes: int, places: Callable[[], Place] | None = None, **options: Any) -> None:
        self._reply_bytes = reply_bytes
        self._places = places
        super().__init__(**options)

    def _connect(self: Any) -> Any:
        patience = self.socket_connect_timeout
        left = green.seconds_left(patience)
        if self._places is not None:
            self.host, self.port = self._places()
        self.socket_connect_timeout = left
        try:
            with gevent.Timeout(left, TimeoutError(f"no connection within {left:g} s")):  # bounds the name's resolution and TLS too
                return super()._connect()  # type: ignore[misc]
        finally:
            self.socket_connect_timeout = patience

    def on_connect_check_health(self: Any, check_health: bool = True) -> None:
        self.is_soiled, self._is_greeting = False, True
        try:
            super().on_connect_check_health(check_health=check_health)  # type: ignore[misc]
            self._check_role()
        finally:
            self._is_greeting = False

    def _check_role(self: Any) -> None:
        if self._places is not None:
            super().send_command("ROLE", check_health=False)  # type: ignore[misc]
            role = self.read_response(disable_decoding=True)[0]
            if role != b"master":
                raise NoConnection(f"{self.host}:{self.port} is a {role.decode()}, not the master that the Sentinels named")

    def set_parser(self: Any, parser_class: Any) -> None:
        super().set_parser(_Parser)  # type: ignore[misc]
        self._parser.limit_bytes = self._reply_bytes

    def send_command(self: Any, *args: Any, **options: Any) -> None:
        self._seconds_on_server = seconds_on_server(args)
        if not self._is_greeting:
            self._waits = deque()  # of a pipeline that was cut short
        if is_stateful(args):
            self.is_soiled = True
        super().send_command(*args, **options)  # type: ignore[misc]

    def pack_commands(self: Any, commands: Iterable[Any]) -> Any:
        """Pack a pipeline, which is about to be sent."""
        pipeline = list(commands)
        self._waits = deque([seconds_on_server(args) for args in pipeline])
        ends = [args[0] for args in (pipeline[:1] + pipeline[-1:])]
        inside = pipeline[1:-1] if ends == ["MULTI", "EXEC"] else pipeline
        if any(is_stateful(args) for args in inside):
            self.is_soiled = True
        return super().pack_commands(pipeline)  # type: ignore[misc]

    def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:
        left = green.seconds_left(self.socket_timeout)  # nothing was sent yet: the connection stays good
        if self._sock:
            self._sock.settimeout(left)
        super().send_packed_command(command, check_health)  # type: ignore[misc]

    def read_response(self: Any, disable_decoding: bool = False, *, timeout: Any = SENTINEL, **options: Any) -> Any:
        if self._waits and not self._is_greeting:
            self._seconds_on_server = self._waits.popleft()
        if timeout is SENTINEL and self._sock:
            try:
                patience = None if self._seconds_on_server == FOREVER else self.socket_timeout + self._seconds_on_server
                self._sock.settimeout(green.seconds_left(patience))
            except DeadlineExceeded:
                self.disconnect()  # the reply is still to come: nobody else may read it
                raise
        try:
            return super().read_response(disable_decoding, timeout=timeout, **options)  # type: ignore[misc]
        except (ReadOnlyError, AuthenticationError):
            self.is_soiled = True  # a replica since a failover, or a password that is old: a new connection may be better
            raise
        except NoConnection as error:
            if type(error) is not NoConnection or self._is_greeting or not options.get("disconnect_on_error", True):
                raise  # a reply that means it, a handshake, or a subscription
            raise Lost(str(error), may_have_run=True) from error
        except InvalidResponse as error:
            raise NoConnection(f"the server does not speak RESP: {error}") from error
        finally:
            self._seconds_on_server = 0.0


class _Parser(_HiredisParser):
    """redis-py's parser with a bound for replies."""

    limit_bytes = 0

    def on_connect(self, connection: Any, **options: Any) -> None:
        super().on_connect(connection, **options)  # type: ignore[no-untyped-call]
        self._reader = reader_for(connection, NOT_ENOUGH_DATA, BoundedReader)
        self._reader.limit_bytes, self._reader.not_yet = self.limit_bytes, NOT_ENOUGH_DATA


def reader_for(connection: Any, not_yet: object, kind: type[R]) -> R:
    """Return a reader that decodes as the connection's settings say."""
    encoder = connection.encoder
    decoding = {"encoding": encoder.encoding} if encoder.decode_responses else {}
    return kind(
        protocolError=InvalidResponse,
        replyError=_HiredisParser.parse_error,
        errors=encoder.encoding_errors,
        notEnoughData=not_yet,
        **decoding,
    )


def is_text(encoder: Any) -> bool | None:
    """Tell whether replies are decoded; None when otherwise than as UTF-8."""
    if not encoder.decode_responses:
        return False
    is_plain = encoder.encoding_errors == "strict" and encoder.encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    return True if is_plain else None


class TcpConnection(_Bounded, Connection):
    """A connection over TCP."""


class TlsConnection(_Bounded, SSLConnection):
    """A connection over TLS."""


class UnixConnection(_Bounded, UnixDomainSocketConnection):
    """A connection over a Unix socket."""


OURS = {Connection: TcpConnection, SSLConnection: TlsConnection, UnixDomainSocketConnection: UnixConnection}


class Pool(BlockingConnectionPool):
    """A bounded pool: takers wait in line for `wait_seconds` or until the deadline. It notices a fork and begins anew.

    gevent's sockets work in the thread that made them only: another thread gets a new connection, which is closed after use.
    """

    def __init__(self, settings: Settings, options: dict[str, Any]) -> None:
        self.settings = settings
        self.waiting = 0
        super().__init__(  # type: ignore[no-untyped-call]
            max_connections=settings.max_connections, timeout=settings.wait_seconds, queue_class=Turns, **options
        )

    def reset(self) -> None:
        """Begin without connections, in the thread that asks for it."""
        self._thread = thread_number()
        self._abroad: set[Any] = set()
        super().reset()  # type: ignore[no-untyped-call]

    @property
    def timeout(self) -> float | None:
        """How long this greenlet may wait now. Raises `DeadlineExceeded` when nothing is left."""
        return green.seconds_left(self.settings.wait_seconds)

    @timeout.setter
    def timeout(self, _seconds: float) -> None:
        """redis-py's constructor sets it; the settings decide."""

    def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> Any:
        """Take a connection. Raises redis-py's errors, and `DeadlineExceeded`."""
        check_server(self.settings)
        self._checkpid()
        if thread_number() != self._thread:
            return self._for_other_thread()
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

    def _for_other_thread(self) -> Any:
        if len(self._abroad) >= self.settings.max_connections:
            raise Crowded(f"{len(self._abroad)} connections are in use by other threads")
        connection: Any = self.connection_class(**self.connection_kwargs)
        self._abroad.add(connection)
        try:
            connection.connect()
        except BaseException:
            self.release(connection)
            raise
        return connection

    def release(self, connection: Any) -> None:
        """Take a connection back; one that a command changed is closed first."""
        if connection in self._abroad:
            self._abroad.remove(connection)
            connection.disconnect()
            return
        if connection.is_soiled:
            connection.disconnect()
        super().release(connection)  # type: ignore[no-untyped-call]

    def free(self) -> int:
        """Return how many commands could start without waiting."""
        return int(self.pool.qsize())

    def opened(self) -> int:
        """Return how many connections are open."""
        return sum(1 for connection in self._connections if connection._sock)


def check_server(settings: Settings) -> None:
    """Raise `SetupError` when the settings name no server, or this process has no sockets that wait in the event loop."""
    if not monkey.is_module_patched("socket"):
        raise SetupError("Redis cannot wait in the event loop: run the program with `nucleon serve`, or call nucleon.green.patch() first")
    if settings.url is None and not settings.sentinels:
        raise SetupError(
            "Redis has no server: set REDIS_URL, or url in the settings section [redis]. (A command while the module is imported "
            "comes before the settings are read, and before the embedded server runs: put it into a handler or an @app.on_start)"
        )


def connection_options(settings: Settings, credential_provider: Any = None) -> dict[str, Any]:
    """Return keyword arguments for redis-py's pool. Raises `SetupError` for an address it cannot read."""
    options = options_from(settings.url.reveal() if settings.url is not None else "redis://")
    kind = options.get("connection_class", Connection)
    if settings.sentinels:
        if kind is UnixDomainSocketConnection:
            raise SetupError("sentinels name a server by host and port: url must begin with redis:// or rediss://")
        options["places"] = places_of(settings)
    return {
        "socket_connect_timeout": settings.connect_seconds,
        "socket_timeout": settings.socket_seconds,
        "decode_responses": settings.decode_responses,
        "protocol": settings.protocol,
        "driver_info": None,  # saves two round trips for every new connection
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "retry": Retry(NoBackoff(), 0),  # a command that may have run is never sent twice
        "credential_provider": credential_provider,
        "reply_bytes": settings.reply_bytes,
        **options,
        "connection_class": OURS[kind],
    }


def places_of(settings: Settings) -> Callable[[], Place]:
    """Return a function that asks the Sentinels where the master is. It raises redis-py's `MasterNotFoundError`."""
    share = settings.connect_seconds / (len(settings.sentinels) + 1)  # one that is silent leaves time for the others and the master
    bounds = {"socket_timeout": share, "socket_connect_timeout": share}
    sentinels = [(host.strip("[]"), int(port)) for host, _, port in (place.rpartition(":") for place in settings.sentinels)]
    sentinel = Sentinel(sentinels, sentinel_kwargs={**bounds, "driver_info": None, "retry": Retry(NoBackoff(), 0)})  # type: ignore[no-untyped-call]

    def place() -> Place:
        host, port = sentinel.discover_master(settings.sentinel_service)  # type: ignore[no-untyped-call]
        sentinel.close()  # they are asked rarely: nothing is kept open
        return str(host), int(port)

    return place
