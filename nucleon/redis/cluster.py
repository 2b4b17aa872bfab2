"""A cluster as a resource: redis-py's cluster client over bounded pools, with bounded waits and errors that are problems."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from queue import Empty
from typing import Any, ClassVar, TypeVar

import gevent
import redis.cluster
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import MaxConnectionsError, RedisClusterException, RedisError, SlotNotCoveredError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from nucleon import green
from nucleon.errors import DeadlineExceeded, SetupError, Unavailable
from nucleon.redis.border import problem_from
from nucleon.redis.commands import is_read
from nucleon.redis.connection import Pool, check_server, connection_options
from nucleon.redis.keys import REPLIES, callback_without, prefixed
from nucleon.redis.settings import Settings as RedisSettings
from nucleon.redis.telling import telling

R = TypeVar("R")

TRIES = 3
"""A command that only reads is asked for so often when its node is lost."""

BESIDE = frozenset(["close", "from_url", "keyspace_notifications", "monitor", "pipeline", "pubsub", "transaction"])
"""Methods of redis-py's client that go past the bounds of this class, so that they are not offered."""


class RedisCluster:
    """A resource: `cluster = app.use(RedisCluster())`; then every command of redis-py is a method: `cluster.incr("visits")`.

    The slot of a key decides which node gets the command; MOVED and ASK are followed. Each node has a pool of `max_connections`, and a
    command holds a connection while it waits. Raises as `Redis` does; what may have run is never sent again, unless it only reads.
    """

    kind: ClassVar[str] = "redis"
    Settings: ClassVar[type[RedisSettings]] = RedisSettings

    def __init__(self, *, credential_provider: Any = None, **defaults: Any) -> None:
        """Open nothing. defaults: values of `Settings` that the settings files may override; `url` names any node of the cluster."""
        unknown = sorted(set(defaults) - {field.name for field in fields(RedisSettings)})
        if unknown:
            raise SetupError(f"RedisCluster() has no setting {', '.join(unknown)}")
        self.calls = self.failures = 0
        self._credential_provider = credential_provider
        self._nodes: _Nodes | None = None
        self.configure(RedisSettings(**defaults), self.kind)

    def configure(self, settings: RedisSettings, name: str) -> None:
        """Take the settings of the section `[name]`; connections are opened when they are first needed."""
        if settings.sentinels or settings.local_bytes:
            raise SetupError(f"a cluster takes neither sentinels nor local_bytes: remove them from [{name}]")
        options = connection_options(settings, self._credential_provider)
        if "path" in options or options.pop("db", 0):
            raise SetupError(f"a cluster has no Unix sockets and only database 0: set url of [{name}] to redis://host:port")
        self.stop()
        self.settings, self.name, self._options = settings, name, options
        self._turn = green.Lock()

    def start(self) -> None:
        """Begin without connections, in the worker after the fork; opens nothing."""
        self.stop()

    def stop(self) -> None:
        """Close all connections; a command after that opens new ones."""
        nodes, self._nodes = self._nodes, None
        if nodes is not None:
            nodes.close()

    def health(self) -> None:
        """Return when every primary answers a PING; raise `Unavailable` or `DeadlineExceeded` when not."""
        self.execute_command("PING", target_nodes=redis.cluster.RedisCluster.PRIMARIES)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its reply: what every method ends in. options: redis-py's, `target_nodes` among them."""
        return self._known().execute_command(*args, **options)

    def __getattr__(self, name: str) -> Any:
        """Return a method of redis-py's cluster client."""
        if name.startswith("_") or name in BESIDE or not hasattr(redis.cluster.RedisCluster, name):
            raise AttributeError(f"RedisCluster has no {name!r}")
        return getattr(self._known(), name)

    def _known(self) -> "_Nodes":
        """Return redis-py's client; it asks for the slots when it is made."""
        if self._nodes is None:
            check_server(self.settings)
            return self._observed("CLUSTER SLOTS", self._learned)
        return self._nodes

    def _learned(self) -> "_Nodes":
        with self._turn:
            if self._nodes is None:
                self._nodes = _Nodes(self)
            return self._nodes

    def _pool(self, *, host: str, port: int, redis_connect_func: Any, **_others: Any) -> "_NodePool":
        """Return the pool of a node; redis-py's own options are in ours already."""
        return _NodePool(self.settings, {**self._options, "host": host, "port": port, "redis_connect_func": redis_connect_func})

    def _observed(self, statement: str, run: Callable[[], R]) -> R:
        """Count a command, run it, translate its errors and tell who listens."""
        self.calls += 1
        with telling(self, statement):
            return _bounded(run)

    def __repr__(self) -> str:
        pools = self._nodes.pools() if self._nodes is not None else []
        most = self.settings.max_connections
        return (
            f"<RedisCluster {self.name!r}: {len(pools)} nodes; {sum(most - pool.free() for pool in pools)} connections in use, "
            f"{sum(pool.opened() for pool in pools)} open, at most {most} a node, {sum(pool.waiting for pool in pools)} waiting; "
            f"{self.calls} calls, {self.failures} failed>"
        )


class _NodePool(Pool):
    """The pool of one node. That it is full says nothing about the node."""

    def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> Any:
        """Take a connection. Raises `MaxConnectionsError`, for which redis-py does not give up the node."""
        try:
            return super().get_connection()
        except NoConnection as error:
            if isinstance(error.__cause__, Empty):
                raise MaxConnectionsError(str(error)) from error
            raise


class _Nodes(redis.cluster.RedisCluster):
    """redis-py's client: it knows the slots, follows MOVED and ASK, and learns the slots anew when a node is lost."""

    def __init__(self, owner: RedisCluster) -> None:
        self._owner = owner
        self._prefix = owner.settings.prefix
        url = owner.settings.url
        assert url is not None
        super().__init__(
            url=url.reveal(),
            connection_pool_class=owner._pool,
            retry=Retry(NoBackoff(), 0),  # a write that may have run is not sent again
            require_full_coverage=False,  # the slots that are there work
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            decode_responses=owner.settings.decode_responses,
            protocol=owner.settings.protocol,
        )
        for command in REPLIES if self._prefix else ():
            known = self.cluster_response_callbacks.get(command, None)  # type: ignore[no-untyped-call]
            self.cluster_response_callbacks[command] = callback_without(command, known, self._prefix)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its reply."""
        if self._prefix:
            args = prefixed(args, self._prefix)
        return self._owner._observed(str(args[0]), lambda: self._asked(args, options))

    def _partition_keys_by_slot(self, keys: Iterable[Any]) -> dict[int, list[Any]]:
        """Return keys by the slots that they have with the prefix: redis-py's DEL, EXISTS, TOUCH, UNLINK and MGET of many slots."""
        slots: dict[int, list[Any]] = {}
        for key in keys:
            slots.setdefault(self._slot_of(key), []).append(key)
        return slots

    def _partition_pairs_by_slot(self, mapping: Mapping[Any, Any]) -> dict[int, list[Any]]:
        """As `_partition_keys_by_slot`, for MSET."""
        slots: dict[int, list[Any]] = {}
        for pair in mapping.items():
            slots.setdefault(self._slot_of(pair[0]), []).extend(pair)
        return slots

    def _slot_of(self, key: Any) -> int:
        return int(key_slot(self._prefix.encode() + self.encoder.encode(key)))  # type: ignore[no-untyped-call]

    def _execute_pipeline_by_slot(self, command: str, slots_to_args: Mapping[int, Iterable[Any]]) -> list[Any]:
        """Send a command for each slot, one after the other, as any other command: redis-py's pipelines know of no bounds."""
        return [self.execute_command(command, *words) for words in slots_to_args.values()]

    def _asked(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        ask = super().execute_command
        for _ in range(TRIES - 1 if is_read(args[0]) else 0):
            try:
                return ask(*args, **options)  # type: ignore[no-untyped-call]
            except MaxConnectionsError:
                raise
            except NoConnection:
                green.check()
        return ask(*args, **options)  # type: ignore[no-untyped-call]

    def pools(self) -> list[Pool]:
        """Return the pools of the nodes."""
        nodes = [node.redis_connection for node in self.get_nodes()]  # type: ignore[no-untyped-call]
        return [node.connection_pool for node in nodes if node is not None]


def _bounded(run: Callable[[], R]) -> R:
    """Run until the deadline at most. redis-py waits for its locks, and between tries, without knowing of it."""
    green.check()
    with gevent.Timeout(green.remaining()) as deadline:
        try:
            return run()
        except gevent.Timeout as over:
            if over is not deadline:
                raise
            raise DeadlineExceeded("Redis did not answer before the deadline") from None
        except RedisError as error:
            problem = problem_from(error)
            if problem is None:
                raise
            raise problem from error
        except RedisClusterException as error:
            green.check()
            if "Cluster mode is not enabled" in str(error):
                raise SetupError("the server of url is no node of a cluster: use nucleon.redis.Redis for it") from error
            if isinstance(error, SlotNotCoveredError) or "cannot be connected" in str(error):
                raise Unavailable("Redis is not available") from error
            raise
