"""TLS: the certificate that new connections are shown, read again when its files change; and the wire that speaks it."""

import logging
import os
import ssl
from pathlib import Path

from gevent import get_hub

from nucleon.errors import SetupError
from nucleon.server.settings import Settings
from nucleon.server.wire import RECEIVE_BYTES, Wire

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


_LEAST_INTAKE_BYTES = 32_768  # less than a record, which has 16,645 bytes at most (RFC 8446 5.2), could not be decrypted
_PIECE_BYTES = 65_536  # so much is encrypted at a time: what the kernel does not take of it is held
_NOT_TLS = b"This port speaks TLS: write https:// in front of the address.\n"
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_NOT_TLS), _NOT_TLS)
)


def certificate_of(settings: Settings) -> Certificate | None:
    """Return the certificate that the settings name, or None when they name none. Raises `SetupError`."""
    if not settings.tls_certificate:
        return None
    return Certificate(settings.tls_certificate, settings.tls_key, settings.tls_client_authority)


class TlsWire(Wire):
    """A wire whose bytes are encrypted; the handshake happens inside the first calls of `receive`. Never blocks.

    OpenSSL works on memory: what it wants to send is in `_unsent` until the kernel takes it. A failed handshake is logged and reads as
    the end of the connection.
    """

    __slots__ = ("_has_more", "_incoming", "_is_shaken", "_outgoing", "_peer", "_taken", "_tls", "_unsent")

    def __init__(self, fd: int, family: int, context: ssl.SSLContext, peer: str) -> None:
        super().__init__(fd, family)
        self.is_plain = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._peer = peer
        self._is_shaken = False
        self._has_more = False  # OpenSSL may hold bytes that have come
        self._unsent = b""
        self._taken = 0

    def receive(self) -> bytes | None:
        """Return the decrypted bytes that have come; b"" at the end, also when the peer breaks the protocol; None for not yet."""
        data = super().receive()
        if not data:
            return data
        self._incoming.write(data)
        try:
            if not self._is_shaken:
                self._tls.do_handshake()
                self._is_shaken = True
            return self._decrypted()
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError as error:
            self._tell(error)
            return b""
        finally:
            self._flush()

    def _decrypted(self) -> bytes:
        """Return all that is here. Raises `ssl.SSLWantReadError` when that is nothing."""
        pieces: list[bytes] = []
        try:
            while piece := self._tls.read(RECEIVE_BYTES):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            if not pieces:
                raise
        except ssl.SSLZeroReturnError:
            pass
        return b"".join(pieces)

    def receive_into(self, place: memoryview) -> int:
        """Take decrypted bytes, at most as much as there is place for, and return how much; 0 at the end, -1 for nothing yet.

        When the place is full there may be more, which the next call or `rest` takes: the socket does not tell about it again.
        """
        try:
            if self._has_more and (count := self._decrypted_into(place)) >= 0:
                return count
            intake = memoryview(bytearray(min(RECEIVE_BYTES, max(_LEAST_INTAKE_BYTES, len(place)))))
            received = super().receive_into(intake)
            if received <= 0:
                return received
            self._incoming.write(intake[:received])
            return self._decrypted_into(place)
        except ssl.SSLError as error:
            self._tell(error)
            return 0
        finally:
            self._flush()

    def _decrypted_into(self, place: memoryview) -> int:
        """Decrypt what is here, as far as there is place for it. As `receive_into`. Raises `ssl.SSLError`."""
        filled = 0
        self._has_more = True
        try:
            while filled < len(place):
                count = int(self._tls.read(len(place) - filled, place[filled:]))  # a number, not bytes, when there is a place
                if not count:
                    break
                filled += count
        except ssl.SSLWantReadError:
            self._has_more = False
            return filled or -1
        except ssl.SSLZeroReturnError:
            pass
        return filled

    def rest(self) -> bytes:
        """Return what `receive_into` had no place for: at most what it takes from the socket at a time, and the begin of a record."""
        if not self._has_more:
            return b""
        self._has_more = False
        try:
            return self._decrypted()
        except ssl.SSLError:
            return b""  # nothing, or what the next call will fail of again

    def _tell(self, error: ssl.SSLError) -> None:
        get_hub().loop.run_callback(log.info, "TLS with %s failed: %s", self._peer or "unix", _reason(error))  # as `Connection.refuse`
        if error.reason == "HTTP_REQUEST":
            self._unsent = _PLAIN_ANSWER

    def _flush(self) -> bool:
        """Send what OpenSSL has written. False: the kernel has no room for all of it. A broken connection shows at the next receive."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        if self._unsent:
            try:
                self._unsent = self._unsent[super().send(self._unsent, 0) :]
            except OSError:
                self._unsent = b""
        return not self._unsent

    def send(self, data: bytes, start: int) -> int:
        """Send from `data[start:]` and return how many bytes have left for good, 0 when there is no room now. Raises `OSError`.

        After 0 the caller comes again with the same bytes at `start`: those that are encrypted already are not encrypted twice.
        """
        if not self._taken:
            piece = memoryview(data)[start : start + _PIECE_BYTES]
            self._taken = self._tls.write(piece) if len(piece) else 0
            self._unsent += self._outgoing.read()
        if self._unsent:
            self._unsent = self._unsent[super().send(self._unsent, 0) :]
            if self._unsent:
                return 0
        taken, self._taken = self._taken, 0
        return taken

    def send_both(self, head: bytes, body: bytes) -> int:
        """Send the head, and the body when there is room; as `send`."""
        sent = self.send(head, 0)
        return sent + self.send(body, 0) if sent == len(head) else sent

    def end(self) -> None:
        """Say that no more will be sent (close_notify, RFC 8446 6.1), then end the connection's half. Raises `OSError`."""
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # the peer's own close_notify is not waited for
        self._flush()
        super().end()
