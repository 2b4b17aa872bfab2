"""From nothing to an open connection (section 2.2.4 of the specification). Runs in a greenlet of the supervisor, every step bounded."""

import _socket
import ssl
from dataclasses import dataclass
from time import monotonic
from typing import Any

from nucleon import green
from nucleon.amqp.address import Address, tls_context
from nucleon.amqp.codec import (
    FRAME_MINIMUM,
    PROTOCOL_HEADER,
    CommandReader,
    FrameReader,
    MalformedFrame,
    Method,
    encode_table,
    method_frame,
    methods,
)
from nucleon.amqp.errors import AccessRefused, ConnectionLost
from nucleon.amqp.settings import Settings
from nucleon.amqp.transport import Cipher
from nucleon.errors import SetupError

REFUSED = {403, 530}
"""ACCESS_REFUSED, and NOT_ALLOWED for a virtual host that does not exist: another attempt would end the same way."""

CAPABILITIES = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection that may be used: its socket, what was agreed, and bytes that came already."""

    raw: _socket.socket
    cipher: Cipher | None
    host: tuple[str, int]
    channel_max: int
    frame_max: int
    heartbeat_seconds: float
    server: dict[str, Any]
    frames: FrameReader
    early: tuple[Method, ...]


class _Talk:
    """The socket during the handshake: whole methods in and out, until one instant."""

    def __init__(self, connection: Any, host: tuple[str, int], until: float) -> None:
        self._connection = connection
        self._host = host
        self._until = until
        self._reader = CommandReader()
        self._methods: list[Method] = []
        self.cipher: Cipher | None = None

    def encrypt(self, context: ssl.SSLContext) -> None:
        self.cipher = Cipher(context, self._host[0])
        self.cipher.shake_hands(self._receive, self._connection.sendall)

    def send(self, data: bytes) -> None:
        self._connection.settimeout(self._left())
        self._connection.sendall(data if self.cipher is None else self.cipher.encrypt(data))

    def next(self) -> Method:
        while not self._methods:
            data = self._receive()
            if not data:
                raise ConnectionResetError("the server closed the connection during the handshake")
            if self.cipher is not None:
                data = self.cipher.decrypt(data)
            self._methods += [command.method for command in self._reader.feed(data)]
        return self._methods.pop(0)

    def expect(self, kind: type[Method]) -> Any:
        method = self.next()
        if isinstance(method, methods.ConnectionClose):
            self.send(method_frame(0, methods.ConnectionCloseOk()))
            what = f"RabbitMQ at {_shown(self._host)} refuses the connection: {method.code} {method.text}"
            raise AccessRefused(what) if method.code in REFUSED else ConnectionLost(what)
        if not isinstance(method, kind):
            raise MalformedFrame(f"{kind.__name__} was expected, {type(method).__name__} came")
        return method

    def _receive(self) -> bytes:
        self._connection.settimeout(self._left())
        data: bytes = self._connection.recv(65_536)
        return data

    def _left(self) -> float:
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def release(self) -> tuple[_socket.socket, FrameReader, tuple[Method, ...]]:
        """Give away the socket, and what was read beyond the handshake (a broker in an alarm says so at once)."""
        family, kind, protocol = self._connection.family, self._connection.type, self._connection.proto
        raw = _socket.socket(family, kind, protocol, fileno=self._connection.detach())
        return raw, self._reader.frames, tuple(self._methods)


def open_connection(address: Address, host: tuple[str, int], settings: Settings, role: str) -> Opened:
    """Connect, encrypt, authenticate, agree on limits and open the virtual host, within `connect_seconds`.

    Raises `ConnectionLost` (tried again by who called), `AccessRefused` and `SetupError` (not tried again).
    """
    until = monotonic() + settings.connect_seconds
    try:
        connection = green.connect(host, settings.connect_seconds)
        try:
            return _shaken(_Talk(connection, host, until), address, host, settings, role)
        except BaseException:
            connection.close()
            raise
    except ssl.SSLCertVerificationError as error:
        raise ConnectionLost(f"the certificate of RabbitMQ at {_shown(host)} is not trusted: {error.verify_message}") from error
    except TimeoutError as error:
        raise ConnectionLost(f"no connection to RabbitMQ at {_shown(host)} within {settings.connect_seconds:g} s") from error
    except OSError as error:
        raise ConnectionLost(f"no connection to RabbitMQ at {_shown(host)}: {error.strerror or error}") from error
    except MalformedFrame as error:
        raise ConnectionLost(f"{_shown(host)} does not speak AMQP 0-9-1: {error}") from error


def _shaken(talk: _Talk, address: Address, host: tuple[str, int], settings: Settings, role: str) -> Opened:
    if address.is_tls:
        talk.encrypt(tls_context(settings))
    talk.send(PROTOCOL_HEADER)
    start: methods.ConnectionStart = talk.expect(methods.ConnectionStart)
    talk.send(method_frame(0, _answer(start, address, settings, role)))
    try:
        tune: methods.ConnectionTune = talk.expect(methods.ConnectionTune)
    except ConnectionResetError as error:  # what brokers without `authentication_failure_close` do
        raise AccessRefused(f"RabbitMQ at {_shown(host)} closed the connection at the login of {address.user!r}") from error
    channel_max = _smaller(tune.channel_max, settings.channel_max)
    frame_max = max(_smaller(tune.frame_max, settings.frame_max), FRAME_MINIMUM)
    heartbeat = _smaller(tune.heartbeat, round(settings.heartbeat_seconds + 0.49))
    talk.send(method_frame(0, methods.ConnectionTuneOk(channel_max, frame_max, heartbeat)))
    talk.send(method_frame(0, methods.ConnectionOpen(address.vhost)))
    talk.expect(methods.ConnectionOpenOk)
    raw, frames, early = talk.release()
    frames.frame_max = frame_max
    return Opened(raw, talk.cipher, host, channel_max, frame_max, heartbeat, start.server_properties, frames, early)


def _answer(start: methods.ConnectionStart, address: Address, settings: Settings, role: str) -> methods.ConnectionStartOk:
    mechanism = settings.mechanism.upper()
    offered = start.mechanisms.decode("ascii", "replace").split()
    if mechanism not in offered:
        raise SetupError(f"RabbitMQ does not offer the mechanism {mechanism}, only {', '.join(offered)}: set mechanism in [amqp]")
    user, password = address.user, address.password.reveal()
    response = {
        "PLAIN": f"\0{user}\0{password}".encode(),
        "AMQPLAIN": encode_table({"LOGIN": user, "PASSWORD": password})[4:],
        "EXTERNAL": b"",
    }[mechanism]
    name = f"{settings.connection_name} {role}"
    properties = {"product": "nucleon", "platform": "Python", "connection_name": name, "capabilities": CAPABILITIES}
    return methods.ConnectionStartOk(properties, mechanism, response)


def _smaller(theirs: int, ours: int) -> int:
    """Return the smaller of two limits, of which 0 is none."""
    return min(theirs, ours) if theirs and ours else theirs or ours


def _shown(host: tuple[str, int]) -> str:
    return f"{host[0]}:{host[1]}"
