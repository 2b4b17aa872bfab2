"""The client that an application holds: redis-py's, with bounded waits and errors that are problems."""

from collections.abc import Callable
from dataclasses import fields
from time import monotonic
from typing import Any, ClassVar, TypeVar

import redis

from nucleon import hooks
from nucleon.errors import SetupError
from nucleon.redis.border import translated
from nucleon.redis.connection import Pool
from nucleon.redis.offers import Offers
from nucleon.redis.settings import Settings as RedisSettings

R = TypeVar("R")


class Redis(Offers, redis.Redis):
    """A resource: `cache = app.use(Redis())`; then every command of redis-py is a method: `cache.incr("visits")`.

    Raises `Unavailable` (503) when the server is away or all connections stay taken, `DeadlineExceeded` (504) at the deadline of the
    request; errors in a command itself stay `redis.exceptions.ResponseError`. A command that may have run is never sent again.
    """

    kind: ClassVar[str] = "redis"
    Settings: ClassVar[type[RedisSettings]] = RedisSettings

    def __init__(self, **defaults: Any) -> None:
        """Open nothing. defaults: values of `Settings` that the settings files may override."""
        unknown = sorted(set(defaults) - {field.name for field in fields(RedisSettings)})
        if unknown:
            raise SetupError(f"Redis() has no setting {', '.join(unknown)}")
        self.name = self.kind
        self.calls = self.failures = 0
        self.configure(RedisSettings(**defaults), self.kind)

    def configure(self, settings: RedisSettings, name: str) -> None:
        """Take the settings of the section `[name]`; connections are opened when they are first needed."""
        self.name = name
        super().__init__(connection_pool=Pool(settings))

    @property
    def settings(self) -> RedisSettings:
        """The settings in force."""
        return self._pool.settings

    def start(self) -> None:
        """Begin with an empty pool, in the worker after the fork; opens nothing."""
        self.configure(self.settings, self.name)

    def stop(self) -> None:
        """Close all connections; a command after that opens new ones."""
        self.stop_offers()
        self._pool.disconnect()

    def health(self) -> None:
        """Return when the server answers a PING; raise `Unavailable` or `DeadlineExceeded` when not."""
        self.ping()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its reply: what every method ends in."""
        return self._observed(str(args[0]), lambda: super(Redis, self).execute_command(*args, **options))  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "Pipeline":
        """Collect commands and send them in one write; `transaction`: between MULTI and EXEC."""
        pipeline = Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.observed = self._observed
        return pipeline

    def pubsub(self, **options: Any) -> "PubSub":
        """Subscribe to channels; it holds a connection of the pool until it is closed (use it with `with`)."""
        return PubSub(self.connection_pool, **options)

    @property
    def _pool(self) -> Pool:
        pool = self.connection_pool
        assert isinstance(pool, Pool)
        return pool

    def _observed(self, statement: str, run: Callable[[], R]) -> R:
        """Run a command, count it, translate its errors and tell who listens."""
        self.calls += 1
        started, failed = monotonic(), None
        try:
            with translated():
                return run()
        except Exception as error:
            self.failures += 1
            failed = error
            raise
        finally:
            for listener in hooks.query_ended.listeners:
                listener(resource=self.name, statement=statement, seconds=monotonic() - started, error=failed)

    def __repr__(self) -> str:
        pool, most = self._pool, self.settings.max_connections
        where = "no server set" if self.settings.url is None else _place(pool.connection_kwargs)
        return (
            f"<Redis {self.name!r} {where}: {most - pool.free()} of {most} connections in use, {pool.opened()} open, "
            f"{pool.waiting} waiting, {self.calls} calls, {self.failures} failed>"
        )


class Pipeline(redis.client.Pipeline):
    """redis-py's pipeline, with errors as `Redis` gives them."""

    observed: Callable[[str, Callable[[], Any]], Any]

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send what was collected and return the replies in order."""
        replies: list[Any] = self.observed("PIPELINE", lambda: super(Pipeline, self).execute(raise_on_error))
        return replies

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command at once: what happens between WATCH and MULTI."""
        return self.observed(str(args[0]), lambda: super(Pipeline, self).immediate_execute_command(*args, **options))  # type: ignore[no-untyped-call]


class PubSub(redis.client.PubSub):
    """redis-py's subscriptions, with errors as `Redis` gives them.

    A lost connection is an `Unavailable`, so that the application hears of the gap: what was published meanwhile is lost.
    """

    def execute_command(self, *args: Any) -> None:
        """Send SUBSCRIBE and its like."""
        with translated():
            super().execute_command(*args)  # type: ignore[no-untyped-call]

    def parse_response(self, block: bool = True, timeout: float = 0) -> Any:
        """Wait for the next message: for ever, or `timeout` seconds."""
        with translated():
            return super().parse_response(block, timeout)  # type: ignore[no-untyped-call]


def _place(options: dict[str, Any]) -> str:
    address = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"at {address} database {options.get('db') or 0}"
