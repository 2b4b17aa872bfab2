"""What can be set about RabbitMQ: section `[amqp]`."""

from dataclasses import dataclass

from nucleon.errors import SetupError
from nucleon.secret import Secret

FRAME_MINIMUM = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The connections and their bounds. Times are seconds.

    url: `amqp://user:password@host:5672/vhost`, `amqps://` for TLS; several hosts are separated by commas.
    wait_seconds: patience of a publish for its confirm, and of everything for a connection. answer_seconds: patience for a reply.
    bridge_seconds: an outage shorter than this is waited out; in a longer one, what has no timeout of its own is refused at once.
    heartbeat_seconds: silence of twice that long ends a connection; 0 leaves it to RabbitMQ.
    prefetch: messages that a consumer may hold unacknowledged. window: publishes of a channel that wait for their confirm.
    mechanism: "plain", "amqplain", or "external" (the client's certificate). ca_file, certificate_file, key_file: PEM, for TLS.
    verify: check the server's certificate and name; false is for tests alone.
    retry_minimum_seconds, retry_maximum_seconds: the first and the longest pause between attempts to connect, with jitter.
    """

    url: Secret[str] | None = None
    wait_seconds: float = 10.0
    bridge_seconds: float = 2.0
    connect_seconds: float = 5.0
    answer_seconds: float = 10.0
    heartbeat_seconds: float = 15.0
    prefetch: int = 50
    window: int = 1000
    frame_max: int = 131_072
    channel_max: int = 2047
    body_limit_bytes: int = 64 * 1024 * 1024
    mechanism: str = "plain"
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    verify: bool = True
    retry_minimum_seconds: float = 0.1
    retry_maximum_seconds: float = 5.0
    connection_name: str = "nucleon"

    def __post_init__(self) -> None:
        if self.mechanism not in ("plain", "amqplain", "external"):
            raise SetupError(f"mechanism is 'plain', 'amqplain' or 'external', not {self.mechanism!r}")
        if self.frame_max < FRAME_MINIMUM:
            raise SetupError(f"frame_max must be at least {FRAME_MINIMUM}, not {self.frame_max}")
        for name in ("wait_seconds", "connect_seconds", "answer_seconds", "retry_minimum_seconds", "retry_maximum_seconds"):
            if getattr(self, name) <= 0:
                raise SetupError(f"{name} must be more than 0, not {getattr(self, name)}")
        for name in ("prefetch", "window", "channel_max"):
            if not 1 <= getattr(self, name) <= 65_535:
                raise SetupError(f"{name} must be 1 to 65535, not {getattr(self, name)}")
        if self.bridge_seconds < 0:
            raise SetupError(f"bridge_seconds must not be negative, not {self.bridge_seconds}")
        if self.heartbeat_seconds < 0 or self.body_limit_bytes < 1:
            raise SetupError("heartbeat_seconds must not be negative, body_limit_bytes at least 1")
