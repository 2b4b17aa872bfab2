"""The client that an application holds: redis-py's, over shared connections, with bounded waits and errors that are problems."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from typing import Any, ClassVar, TypeVar

import redis
from redis.client import CaseInsensitiveDict
from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError

from nucleon.errors import SetupError
from nucleon.redis.border import translated
from nucleon.redis.connection import Pool, connection_options
from nucleon.redis.copies import Copies
from nucleon.redis.keys import REPLIES, callback_without
from nucleon.redis.multiplexer import Multiplexer
from nucleon.redis.offers import Offers
from nucleon.redis.pipeline import OneConnection, Pipeline, PubSub, RawPubSub
from nucleon.redis.settings import Settings as RedisSettings
from nucleon.redis.shared import SharedCommands
from nucleon.redis.telling import telling

R = TypeVar("R")
log = logging.getLogger("nucleon.redis")


class _Callbacks(CaseInsensitiveDict):
    """redis-py's response callbacks; tells when one is set, because `Redis` remembers them by name.

    own: what the application has set (None: taken away), for those that come after these.
    """

    changed: Callable[[], None] | None = None

    def __init__(self, found: dict[str, Any]) -> None:
        self.own: dict[str, Any] = {}
        super().__init__(found)

    def _note(self, name: str, callback: Any) -> None:
        if self.changed is not None:
            self.own[name.upper()] = callback
            self.changed()

    def __setitem__(self, name: str, callback: Any) -> None:
        super().__setitem__(name, callback)  # type: ignore[no-untyped-call]
        self._note(name, callback)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)  # type: ignore[no-untyped-call]
        self._note(name, None)

    def pop(self, name: str, *default: Any) -> Any:
        found = super().pop(name.upper(), *default)
        self._note(name, None)
        return found

    def update(self, *more: Any, **named: Any) -> None:
        for name, callback in dict(*more, **named).items():
            self[name] = callback

    def follow(self, own: dict[str, Any]) -> None:
        """Take over what the application has set before."""
        for name, callback in own.items():
            if callback is None:
                self.pop(name, None)
            else:
                self[name] = callback


class Redis(SharedCommands, Offers, redis.Redis):
    """A resource: `cache = app.use(Redis())`; then every command of redis-py is a method: `cache.incr("visits")`.

    Raises `Unavailable` (503) when the server is away or slow, `DeadlineExceeded` (504) at the deadline of the request; errors in a
    command itself stay `redis.exceptions.ResponseError`. A command that may have run is never sent again, unless it only reads.
    """

    kind: ClassVar[str] = "redis"
    Settings: ClassVar[type[RedisSettings]] = RedisSettings

    def __init__(self, *, credential_provider: Any = None, **defaults: Any) -> None:
        """Open nothing. defaults: values of `Settings` that the settings files may override.

        credential_provider: redis-py's `CredentialProvider`, asked for user and password at every connect (for passwords that change).
        """
        unknown = sorted(set(defaults) - {field.name for field in fields(RedisSettings)})
        if unknown:
            why = "the address of the server is url (REDIS_URL, or [redis] url in the settings), the others are in docs/redis.md"
            raise SetupError(f"Redis() has no setting {', '.join(unknown)}: {why}")
        self.name = self.kind
        self.calls = self.failures = 0
        self._credential_provider = credential_provider
        self.configure(RedisSettings(**defaults), self.kind)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Any:
        """Not offered: the address comes from the settings. Raises `SetupError`."""
        raise SetupError("Redis.from_url is not offered: app.use(Redis()) takes the address from REDIS_URL or [redis] url")

    def configure(self, settings: RedisSettings, name: str) -> None:
        """Take the settings of the section `[name]`; connections are opened when they are first needed."""
        self.name = name
        options = connection_options(settings, self._credential_provider)
        own: dict[str, Any] = getattr(getattr(self, "response_callbacks", None), "own", {})
        super().__init__(connection_pool=Pool(settings, options))
        copies = _copies_for(settings, options)
        multiplexer = Multiplexer(settings, lambda: _connected(options, settings), name, copies)
        callbacks = _Callbacks(self.response_callbacks)
        for command in REPLIES if settings.prefix else ():
            callbacks[command] = callback_without(command, callbacks.get(command, None), settings.prefix)  # type: ignore[no-untyped-call]
        self.response_callbacks = callbacks
        self._share(multiplexer, callbacks, copies, settings.prefix, settings.large_bytes)
        callbacks.changed = self._replan
        callbacks.follow(own)

    @property
    def settings(self) -> RedisSettings:
        """The settings in force."""
        return self._pool.settings

    def start(self) -> None:
        """Begin without connections, in the worker after the fork; opens nothing."""
        self._multiplexer.stop()
        self._pool.disconnect()
        self.configure(self.settings, self.name)

    def stop(self) -> None:
        """Close all connections; a command after that opens new ones."""
        self.stop_offers()
        self._multiplexer.stop()
        self._pool.disconnect()

    def health(self) -> None:
        """Return when the server answers a PING; raise `Unavailable` or `DeadlineExceeded` when not."""
        self.ping()

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Collect commands and send them in one write; `transaction`: between MULTI and EXEC."""
        pipeline = Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.owner = self
        return pipeline

    def client(self) -> OneConnection:
        """Borrow a connection for commands that belong together: `with redis.client() as one: one.set(...); one.wait(1, 100)`."""
        with translated():
            one = OneConnection(connection_pool=self.connection_pool, single_connection_client=True)
        one.owner, one.response_callbacks = self, self.response_callbacks
        return one

    def pubsub(self, **options: Any) -> PubSub:
        """Subscribe to channels; it holds a connection of the pool until it is closed (use it with `with`)."""
        return PubSub(self.connection_pool, **options)

    def raw_pubsub(self) -> RawPubSub:
        """As `pubsub`, with messages as the bytes that were published, whatever `decode_responses` says."""
        return RawPubSub(self.connection_pool)

    @property
    def _pool(self) -> Pool:
        pool = self.connection_pool
        assert isinstance(pool, Pool)
        return pool

    def _observed(self, statement: str, run: Callable[[], R]) -> R:
        """Count a command and run it."""
        self.calls += 1
        return self._told(statement, run)

    def _told(self, statement: str, run: Callable[[], R]) -> R:
        """Run a command, translate its errors and tell who listens."""
        with telling(self, statement), translated():
            return run()

    def __repr__(self) -> str:
        pool, most, shared = self._pool, self.settings.max_connections, self._multiplexer
        where = _place(self.settings, pool.connection_kwargs)
        kept = f"; {self._copies!r}" if self._copies is not None else ""
        return (
            f"<Redis {self.name!r} {where}: {len(shared.links)} shared connections with {shared.in_flight} commands in flight, "
            f"{shared.waiting} waiting; {most - pool.free()} of {most} own connections in use, {pool.opened()} open, "
            f"{pool.waiting} waiting; {self.calls} calls, {self.failures} failed{kept}>"
        )


def _copies_for(settings: RedisSettings, options: dict[str, Any]) -> Copies | None:
    """Return the place for replies that are kept, when the settings want that."""
    if not settings.local_bytes:
        return None
    encoding = options.get("encoding", "utf-8")
    prefixes = [(settings.prefix + one).encode(encoding) for one in settings.local_prefixes or ("",)]
    return Copies(
        most_bytes=settings.local_bytes,
        most_entries=settings.local_entries,
        prefixes=tuple(prefixes),
        seconds=settings.local_seconds,
        encoding=encoding,
    )


def _connected(options: dict[str, Any], settings: RedisSettings) -> Any:
    """Return a connection to a server that answers. Raises redis-py's errors; `BusyLoadingError` while it is not ready."""
    kind = options["connection_class"]
    connection = kind(**{name: value for name, value in options.items() if name != "connection_class"})
    try:
        connection.connect()
        _ping(connection, min(options["socket_connect_timeout"], options["socket_timeout"]))
    except AuthenticationError as error:
        connection.disconnect()
        has_password = options.get("password") is not None or options.get("credential_provider") is not None
        why = "refuses this user or password" if has_password else "asks for a password, and the url has none"
        raise type(error)(f"the server {why}: {error}") from error
    except BusyLoadingError:
        connection.disconnect()
        raise
    connection.is_tracking = bool(settings.local_bytes) and _begin_tracking(connection)
    return connection


def _ping(connection: Any, patience_seconds: float) -> None:
    """Ask whether the server is ready; a user who may not PING hears that it is there all the same."""
    connection.send_command("PING")
    with suppress(ResponseError):
        connection.read_response(timeout=patience_seconds)


def _begin_tracking(connection: Any) -> bool:
    """Ask the server to tell this connection of changed keys. False when it does not, or the user may not ask."""
    connection.send_command("CLIENT", "TRACKING", "ON", "OPTIN")
    try:
        connection.read_response()
    except ResponseError as error:
        log.warning("no replies are kept in this worker (local_bytes): the server refuses CLIENT TRACKING: %s", error)
        return False
    return True


def _place(settings: RedisSettings, options: dict[str, Any]) -> str:
    if settings.sentinels:
        return f"at the master of {settings.sentinel_service!r} database {options.get('db') or 0}"
    if settings.url is None:
        return "no server set"
    address = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"at {address} database {options.get('db') or 0}"
