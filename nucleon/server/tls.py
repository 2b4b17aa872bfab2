"""TLS: the certificate that new connections are shown, read again when its files change."""

import logging
import os
import ssl
from pathlib import Path

from nucleon.errors import SetupError

log = logging.getLogger("nucleon.server")

Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """A chain and its key, and the context made of them; `renew` picks up new files without a restart.

    chain, key: PEM files. client_authority: PEM file of the authority that clients must be signed by, "" to ask for no client certificate.
    Raises `SetupError` that names the file and what is wrong with it.
    """

    def __init__(self, chain: str, key: str, client_authority: str = "") -> None:
        self._chain = chain
        self._key = key or chain
        self._authority = client_authority
        self._stamp = self._looked()
        try:
            self.context = self._loaded()
        except (OSError, ssl.SSLError) as error:
            raise SetupError(f"[server] tls_certificate {chain}, tls_key {self._key}: {_reason(error)}") from None

    def renew(self) -> bool:
        """Load the files again when they have changed. What cannot be loaded is logged, and the old certificate stays in use."""
        stamp = self._looked()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.context = self._loaded()
        except (OSError, ssl.SSLError) as error:
            log.error("the new certificate in %s is not used, the old one stays: %s", self._chain, _reason(error))
            return False
        log.info("the certificate in %s has changed: new connections are shown the new one", self._chain)
        return True

    def _loaded(self) -> ssl.SSLContext:
        """Return a context for servers: TLS 1.2 or later (RFC 9325 3.1.1), HTTP/1.1 by ALPN (RFC 7301)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_IGNORE_UNEXPECTED_EOF
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._chain, self._key, password=_no_password)
        if self._authority:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._authority)
        return context

    def _looked(self) -> Stamp:
        return tuple(_stamp_of(Path(name)) for name in (self._chain, self._key, self._authority) if name)


def _stamp_of(path: Path) -> tuple[int, int, int]:
    try:
        seen = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (seen.st_ino, seen.st_mtime_ns, seen.st_size)


def _no_password() -> str:
    """OpenSSL would ask on the terminal."""
    raise ssl.SSLError("the key is encrypted; give one without a password")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return str(reason).replace("_", " ").lower()
