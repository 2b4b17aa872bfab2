"""What an operator may decide about Redis."""

from dataclasses import dataclass

from nucleon.errors import SetupError
from nucleon.redis.address import options_from
from nucleon.redis.measures import wrong_count, wrong_seconds
from nucleon.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings section `[redis]`.

    url: `redis://`, `rediss://` (TLS) or `unix://`, as redis-py reads it; it may carry user, password and database.
    sentinels: `"host:port"` of Sentinels; they name the server then, and `url` gives user, password, database and TLS.
    sentinel_service: the name under which the Sentinels know the server.
    shared_connections: connections that all commands of a worker share; the second serves while the first is busy with a large reply.
    max_connections: upper bound per worker of connections that belong to one greenlet at a time: commands that wait on the server,
        WATCH, subscriptions, large values.
    wait_seconds: how long a command waits for its turn, or for a lost server to come back, before it answers 503.
    connect_seconds, socket_seconds: patience for a new connection, and for one write or one reply.
    commands_in_flight, in_flight_bytes: what a shared connection may carry unanswered; more waits.
    large_bytes: a command larger than this takes a connection of its own.
    reply_bytes: a reply larger than this is refused and its connection closed.
    prefix: put before every key, so that several applications can share a database.
    protocol: 2 or 3 (RESP).
    decode_responses: give `str` instead of `bytes` (the typed cache does not care).
    local_bytes: replies may be kept in the worker up to this size in all, until the server says that their key has changed; 0: none.
    local_entries: upper bound of their number. local_prefixes: keys that begin so (after `prefix`); none: all keys.
    local_seconds: such a reply is asked for again after that at the latest.
    """

    url: Secret[str] | None = None
    sentinels: tuple[str, ...] = ()
    sentinel_service: str = "mymaster"
    shared_connections: int = 2
    max_connections: int = 20
    wait_seconds: float = 2.0
    connect_seconds: float = 2.0
    socket_seconds: float = 5.0
    commands_in_flight: int = 10_000
    in_flight_bytes: int = 16_777_216
    large_bytes: int = 65_536
    reply_bytes: int = 67_108_864
    prefix: str = ""
    protocol: int = 2
    decode_responses: bool = False
    local_bytes: int = 0
    local_entries: int = 10_000
    local_prefixes: tuple[str, ...] = ()
    local_seconds: float = 60.0

    def __post_init__(self) -> None:
        counts = ("shared_connections", "max_connections", "commands_in_flight", "in_flight_bytes", "large_bytes", "reply_bytes")
        for name in (*counts, "local_entries"):
            if (wrong := wrong_count(getattr(self, name))) is not None:
                raise SetupError(f"{name} {wrong}")
        for name in ("wait_seconds", "connect_seconds", "socket_seconds", "local_seconds"):
            if (wrong := wrong_seconds(getattr(self, name))) is not None:
                raise SetupError(f"{name} {wrong}")
        if self.protocol not in (2, 3):
            raise SetupError(f"protocol must be 2 or 3, not {self.protocol}")
        if self.local_bytes < 0:
            raise SetupError(f"local_bytes cannot be negative: {self.local_bytes}")
        if self.local_bytes and self.protocol != 3:
            raise SetupError("local_bytes needs protocol = 3: the server's notices of changed keys come over RESP3")
        for place in self.sentinels:
            if not place.rpartition(":")[2].isdigit():
                raise SetupError(f"sentinels are written 'host:port', not {place!r}")
        if self.url is not None:
            if not isinstance(self.url, Secret):
                raise SetupError('url holds a password, so it is written Redis(url=Secret("redis://...")), with nucleon.Secret')
            options_from(self.url.reveal())
