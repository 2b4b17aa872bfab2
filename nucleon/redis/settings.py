"""What an operator may decide about Redis."""

from dataclasses import dataclass

from nucleon.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings section `[redis]`.

    url: `redis://`, `rediss://` (TLS) or `unix://`, as redis-py reads it; it may carry a password.
    max_connections: upper bound per worker; more commands at once wait their turn.
    wait_seconds: how long a command waits for a free connection before it answers 503.
    connect_seconds, socket_seconds: patience for a new connection, and for one write or one reply.
    decode_responses: give `str` instead of `bytes` (the typed cache does not care).
    """

    url: Secret[str] | None = None
    max_connections: int = 20
    wait_seconds: float = 2.0
    connect_seconds: float = 2.0
    socket_seconds: float = 5.0
    decode_responses: bool = False

    def __post_init__(self) -> None:
        if self.max_connections < 1:
            raise ValueError(f"max_connections must be at least 1, not {self.max_connections}")
        for name in ("wait_seconds", "connect_seconds", "socket_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)}")
