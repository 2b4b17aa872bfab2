"""A client of AMQP 0-9-1 that hides nothing: a method out, a method in. For the tests of what a broker does."""

import socket
from collections import deque
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from nucleon.amqp.codec import (
    PROTOCOL_HEADER,
    Command,
    CommandReader,
    Method,
    Properties,
    command_frames,
    method_frame,
    methods,
)

M = TypeVar("M", bound=Method)
CAPABILITIES = {"consumer_cancel_notify": True, "connection.blocked": True, "authentication_failure_close": True}


class Closed(Exception):
    """The broker closed the channel or the connection. `code`, `text`: why; `is_connection`."""

    def __init__(self, method: Any) -> None:
        super().__init__(f"{method.code} {method.text}")
        self.code, self.text = method.code, method.text
        self.is_connection = isinstance(method, methods.ConnectionClose)


class Wire:
    """One connection. `ask(method, Reply)` sends and waits; `get(Kind)` waits for a method of that kind on channel 1."""

    def __init__(self, url: str, password: str | None = None) -> None:
        address = urlsplit(url)
        assert address.hostname and address.port
        self.socket = socket.create_connection((address.hostname, address.port), timeout=10)
        self.reader = CommandReader(frame_max=131_072)
        self.waiting: deque[Command] = deque()
        self.last: Command | None = None
        self.made: list[methods.QueueDelete | methods.ExchangeDelete] = []
        try:
            self._shake_hands(address, password)
        except Closed:
            self.close()
            raise
        self.open()

    def _shake_hands(self, address: SplitResult, password: str | None) -> None:
        self.socket.sendall(PROTOCOL_HEADER)
        self.get(methods.ConnectionStart, 0)
        response = f"\0{address.username}\0{password or address.password}".encode()
        self.send(methods.ConnectionStartOk({"capabilities": CAPABILITIES}, "PLAIN", response), 0)
        tune = self.get(methods.ConnectionTune, 0)
        self.send(methods.ConnectionTuneOk(tune.channel_max, tune.frame_max, 0), 0)
        self.ask(methods.ConnectionOpen(unquote(address.path[1:])), methods.ConnectionOpenOk, 0)

    def open(self, channel: int = 1) -> None:
        self.ask(methods.ChannelOpen(), methods.ChannelOpenOk, channel)

    def send(self, method: Method, channel: int = 1) -> None:
        if isinstance(method, methods.QueueDeclare) and not method.exclusive:
            self.made.append(methods.QueueDelete(0, method.queue))
        elif isinstance(method, methods.ExchangeDeclare):
            self.made.append(methods.ExchangeDelete(0, method.exchange))
        self.socket.sendall(method_frame(channel, method))

    def publish(self, exchange: str, key: str, body: bytes = b"", channel: int = 1, mandatory: bool = False, **properties: Any) -> None:
        publish = methods.BasicPublish(0, exchange, key, mandatory)
        self.socket.sendall(command_frames(channel, publish, Properties(**properties), body, 131_072))

    def ask(self, method: Method, reply: type[M], channel: int = 1) -> M:
        self.send(method, channel)
        return self.get(reply, channel)

    def get(self, kind: type[M], channel: int = 1, timeout_seconds: float = 10) -> M:
        """Return the next method of a kind; others stay for later. Raises `Closed`, and `TimeoutError` when none comes."""
        self.socket.settimeout(timeout_seconds)
        kept: list[Command] = []
        try:
            while True:
                command = self._next()
                method = command.method
                if isinstance(method, kind) and command.channel == channel:
                    self.last = command
                    return method
                if isinstance(method, methods.ChannelClose) and command.channel == channel:
                    self.send(methods.ChannelCloseOk(), channel)
                    raise Closed(method)
                if isinstance(method, methods.ConnectionClose):
                    self.send(methods.ConnectionCloseOk(), 0)
                    raise Closed(method)
                kept.append(command)
        finally:
            self.waiting.extendleft(reversed(kept))

    def nothing_comes(self, kind: type[Method], within_seconds: float = 0.1) -> bool:
        try:
            self.get(kind, timeout_seconds=within_seconds)
        except TimeoutError:
            return True
        return False

    @property
    def body(self) -> bytes:
        """The body that came with the last method."""
        assert self.last is not None
        return self.last.body

    @property
    def properties(self) -> Properties:
        assert self.last is not None
        return self.last.properties

    @property
    def headers(self) -> dict[str, Any]:
        return self.properties.headers or {}

    def queue(self, name: str = "q", **arguments: Any) -> str:
        """Declare a durable queue with x-arguments."""
        table = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self.ask(methods.QueueDeclare(0, name, False, True, arguments=table), methods.QueueDeclareOk).queue

    def confirmed(self) -> None:
        self.ask(methods.ConfirmSelect(), methods.ConfirmSelectOk)

    def put(self, queue: str, body: bytes, **properties: Any) -> bool:
        """Publish to a queue on a channel with confirms; True: taken, False: refused."""
        self.publish("", queue, body, **properties)
        while True:
            command = self._next_settling()
            if isinstance(command.method, methods.BasicAck | methods.BasicNack):
                return isinstance(command.method, methods.BasicAck)

    def take(self, queue: str, no_ack: bool = True) -> bytes | None:
        """Get one message of a queue."""
        self.send(methods.BasicGet(0, queue, no_ack))
        method = self.get(Method)  # type: ignore[type-abstract]
        return self.body if isinstance(method, methods.BasicGetOk) else None

    def count(self, queue: str) -> int:
        return self.ask(methods.QueueDeclare(0, queue, True), methods.QueueDeclareOk).message_count

    def consume(self, queue: str, prefetch: int = 0, tag: str = "", no_ack: bool = False, **arguments: Any) -> str:
        self.ask(methods.BasicQos(0, prefetch), methods.BasicQosOk)
        table = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self.ask(methods.BasicConsume(0, queue, tag, False, no_ack, arguments=table), methods.BasicConsumeOk).consumer_tag

    def delivered(self) -> tuple[int, bytes]:
        """Return tag and body of the next delivery."""
        return self.get(methods.BasicDeliver).delivery_tag, self.body

    def clear(self) -> None:
        """Delete what was declared over this connection."""
        for method in {(type(one), str(one)): one for one in self.made}.values():
            if not any(name.startswith("amq.") for name in (getattr(method, "queue", ""), getattr(method, "exchange", ""))):
                reply = methods.QueueDeleteOk if isinstance(method, methods.QueueDelete) else methods.ExchangeDeleteOk
                self.ask(method, reply)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _next_settling(self) -> Command:
        self.get(methods.BasicAck | methods.BasicNack)  # type: ignore[arg-type]
        assert self.last is not None
        return self.last

    def _next(self) -> Command:
        while not self.waiting:
            data = self.socket.recv(131_072)
            if not data:
                raise ConnectionResetError("the broker has hung up")
            self.waiting.extend(self.reader.feed(data))
        return self.waiting.popleft()


def bound(wire: Wire, exchange: str, *queues: tuple[str, str], **arguments: Any) -> None:
    for queue, key in queues:
        wire.queue(queue)
        table = {name.replace("_", "-"): value for name, value in arguments.items()}
        wire.ask(methods.QueueBind(0, queue, exchange, key, False, table), methods.QueueBindOk)


def counts(wire: Wire, *queues: str) -> list[int]:
    return [wire.count(queue) for queue in queues]


def exchange(wire: Wire, name: str, kind: str, **arguments: Any) -> None:
    table = {one.replace("_", "-"): value for one, value in arguments.items()}
    wire.ask(methods.ExchangeDeclare(0, name, kind, durable=True, arguments=table), methods.ExchangeDeclareOk)
