"""What an operator may set about the server."""

from dataclasses import dataclass

from nucleon.errors import SetupError
from nucleon.http import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The section `[server]`.

    trusted_proxies: networks ("10.0.0.0/8", or "unix" for peers on Unix sockets) whose X-Forwarded-For, X-Forwarded-Proto and
    Forwarded are believed. body_bytes_per_second: a body may take `body_seconds` plus a second for each so many bytes received;
    write_bytes_per_second the same for an answer that the client takes slowly. proxy_protocol: networks whose connections begin with a
    header of the PROXY protocol. tls_certificate, tls_key: PEM files; TCP listeners then speak TLS. tls_client_authority: PEM file;
    clients must show a certificate that it has signed. fresh_greenlets: a new greenlet for each request, for applications that leave
    things in greenlet-locals.
    """

    request_line_bytes: int = 8192
    field_bytes: int = 8192
    fields: int = 100
    head_bytes: int = 65_536
    chunk_extension_bytes: int = 4096
    body_bytes: int = 1_048_576
    head_seconds: float = 10.0
    idle_seconds: float = 10.0
    body_seconds: float = 20.0
    body_bytes_per_second: int = 1024
    write_seconds: float = 20.0
    write_bytes_per_second: int = 1024
    linger_seconds: float = 2.0
    max_connections: int = 10_000
    max_concurrent_requests: int = 1_000
    deadline_seconds: float = 30.0
    drain_seconds: float = 30.0
    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol: tuple[str, ...] = ()
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_authority: str = ""
    fresh_greenlets: bool = False

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in self.__slots__}
        wrong = [name for name, value in values.items() if isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0]
        if wrong:
            raise SetupError(f"[server] {', '.join(wrong)}: must be greater than 0")
        if not self.tls_certificate and (self.tls_key or self.tls_client_authority):
            raise SetupError("[server] tls_key and tls_client_authority are of use with tls_certificate only")

    def limits(self) -> Limits:
        """Return what the parser needs to know."""
        return Limits(
            request_line_bytes=self.request_line_bytes,
            field_bytes=self.field_bytes,
            fields=self.fields,
            head_bytes=self.head_bytes,
            chunk_extension_bytes=self.chunk_extension_bytes,
            body_bytes=self.body_bytes,
        )
