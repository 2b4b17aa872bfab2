"""What an operator may decide about Redis."""

from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        for name in ("shared_connections", "max_connections", "commands_in_flight", "in_flight_bytes", "large_bytes", "reply_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("wait_seconds", "connect_seconds", "socket_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)}")
        if self.protocol not in (2, 3):
            raise ValueError(f"protocol must be 2 or 3, not {self.protocol}")
        for place in self.sentinels:
            if not place.rpartition(":")[2].isdigit():
                raise ValueError(f"sentinels are written 'host:port', not {place!r}")
