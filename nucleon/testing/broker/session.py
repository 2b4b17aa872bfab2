"""One client's connection to the fake broker: handshake, channels, what is read and what is sent."""

import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

from nucleon.amqp.codec import (
    FRAME_MINIMUM,
    HEARTBEAT_FRAME,
    NO_PROPERTIES,
    PROTOCOL_HEADER,
    Command,
    CommandReader,
    MalformedFrame,
    Method,
    Properties,
    command_frames,
    method_frame,
    methods,
    read_table,
)
from nucleon.amqp.codec.methods import CARRIES_CONTENT
from nucleon.green import Event, Greenlet, GreenletExit, sleep, spawn
from nucleon.testing.broker.channel import Channel
from nucleon.testing.broker.refusal import ACCESS_REFUSED, CHANNEL_ERROR, NOT_ALLOWED, Refusal
from nucleon.testing.broker.vhost import VHost

if TYPE_CHECKING:
    from nucleon.testing.broker.fake import FakeBroker

CHANNEL_MAX = 2047
FRAME_MAX = 131_072
HEARTBEAT_SECONDS = 60
READ_BYTES = 262_144
OUTBOX_LIMIT_BYTES = 1_048_576  # consumers wait while more than that is unsent
CAPABILITIES = (
    "publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked",
    "consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to",
)  # fmt: skip


class Session:
    """One connection. `vhost`: set once it is open; `knows(name)`: a capability that the client has told."""

    vhost: VHost

    def __init__(self, broker: "FakeBroker", client: socket.socket, number: int) -> None:
        self.broker = broker
        self.number = number
        self.channels: dict[int, Channel] = {}
        self.has_published = False
        self.is_open = False
        self.is_closing = False
        self._is_told = False
        self._client = client
        self._capabilities: dict[str, Any] = {}
        self._frame_max = FRAME_MINIMUM
        self._reader = CommandReader(from_client=True)
        self._outbox: deque[tuple[bytes, float]] = deque()
        self._outbox_bytes = 0
        self._has_output = Event()
        self._greenlets: list[Greenlet[..., Any]] = [spawn(self._write), spawn(self._run)]

    def knows(self, capability: str) -> bool:
        """Tell whether the client has said that it understands something."""
        return bool(self._capabilities.get(capability))

    def is_writable(self) -> bool:
        """Tell whether the client reads what it is sent."""
        return self._outbox_bytes < OUTBOX_LIMIT_BYTES

    def is_busy(self) -> bool:
        """Tell whether something is on its way to the client."""
        return bool(self._outbox)

    def send(self, channel: int, method: Method, properties: Properties | None = None, body: bytes = b"") -> None:
        """Send a method; nothing is sent on a connection or channel that is closing but the end of it."""
        trouble = self.broker.faults.at_sending(method)
        if trouble is not None and trouble.what == "lose":
            return
        if type(method) in CARRIES_CONTENT:
            frames = command_frames(channel, method, properties or NO_PROPERTIES, body, self._frame_max)
        else:
            frames = method_frame(channel, method)
        self._put(frames, trouble.seconds if trouble is not None else 0.0)

    def close(self, code: int, text: str) -> None:
        """Close the connection as a broker does: with a reason, and the client's close-ok awaited."""
        if self.is_closing:
            return
        self.is_closing = True
        self._end_channels()
        self.send(0, methods.ConnectionClose(code, text[:255]))

    def cut(self) -> None:
        """End the connection at once with a reset, as a crash of the broker would."""
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._finish()

    def pause_in_an_alarm(self) -> None:
        """Stop reading this client until the broker's alarm is over, and say so; called when it publishes."""
        self.has_published = True
        if self.broker.alarm:
            self.announce_alarm()
            self.broker.wait_for_the_end_of_the_alarm()

    def announce_alarm(self) -> None:
        """Tell a client that publishes, and wants to know, that it is not read any more; and in the end that it is again."""
        if self.has_published and not self._is_told and self.knows("connection.blocked"):
            self._is_told = True
            self.send(0, methods.ConnectionBlocked(self.broker.alarm))
            self._greenlets.append(spawn(self._announce_calm))

    def _announce_calm(self) -> None:
        self.broker.wait_for_the_end_of_the_alarm()
        self._is_told = False
        self.send(0, methods.ConnectionUnblocked())

    # the two greenlets

    def _run(self) -> None:
        try:
            self._serve()
        except MalformedFrame as fault:
            self._last_words(fault)
        except OSError:
            pass  # the client has gone
        finally:
            self._finish()

    def _serve(self) -> None:
        while not self._reader.started:
            data = self._client.recv(READ_BYTES)
            if not data:
                return
            commands = self._reader.feed(data)
        self.send(0, methods.ConnectionStart(0, 9, self._greeting(), b"PLAIN AMQPLAIN EXTERNAL", b"en_US"))
        while True:
            for command in commands:
                self._take(command)
            data = self._client.recv(READ_BYTES)
            if not data:
                return
            commands = self._reader.feed(data)

    def _write(self) -> None:
        while True:
            self._has_output.wait()
            while self._outbox:
                frames, seconds = self._outbox[0]
                if seconds:
                    sleep(seconds)
                try:
                    self._client.sendall(frames)
                except OSError:
                    return
                self._outbox.popleft()
                self._outbox_bytes -= len(frames)
                if self.is_open and self.is_writable():
                    self._serve_queues()
            self._has_output.clear()

    def _put(self, frames: bytes, seconds: float = 0.0) -> None:
        self._outbox.append((frames, seconds))
        self._outbox_bytes += len(frames)
        self._has_output.set()

    def _beat(self, seconds: float) -> None:
        while True:
            sleep(seconds)
            self._put(HEARTBEAT_FRAME)

    # commands

    def _take(self, command: Command) -> None:
        method = command.method
        trouble = self.broker.faults.at_receipt(method)
        if trouble is not None:
            if trouble.what == "cut":
                self.cut()
                raise GreenletExit
            if trouble.what == "close_connection":
                self.close(trouble.code, trouble.text)
            elif trouble.what == "close_channel" and command.channel in self.channels:
                self._close_channel(self.channels[command.channel], trouble.code, trouble.text, method)
            return
        try:
            self._act(command)
        except Refusal as refusal:
            channel = self.channels.get(command.channel)
            if refusal.is_hard or channel is None:
                self.is_closing = True
                self._end_channels()
                self.send(0, methods.ConnectionClose(refusal.code, str(refusal)[:255], *_numbers(method)))
            else:
                self._close_channel(channel, refusal.code, str(refusal), method)
        if self.broker.faults.after(method) is not None:
            self.cut()
            raise GreenletExit

    def _act(self, command: Command) -> None:
        if self.is_closing:
            if isinstance(command.method, methods.ConnectionCloseOk):
                raise OSError("closed")
        elif command.channel == 0:
            self._on_connection(command.method)
        elif not self.is_open:
            raise Refusal(503, "a channel before the connection is open")
        else:
            self._on_channel(command)

    def _on_connection(self, method: Method) -> None:
        match method:
            case methods.ConnectionStartOk():
                if self._authenticate(method):
                    self.send(0, methods.ConnectionTune(CHANNEL_MAX, FRAME_MAX, HEARTBEAT_SECONDS))
            case methods.ConnectionTuneOk():
                self._frame_max = self._reader.frames.frame_max = min(method.frame_max or FRAME_MAX, FRAME_MAX)
                if method.heartbeat:
                    self._greenlets.append(spawn(self._beat, method.heartbeat / 2))
            case methods.ConnectionOpen():
                self.vhost = self.broker.vhost(method.vhost)
                self.is_open = True
                self.send(0, methods.ConnectionOpenOk())
            case methods.ConnectionClose():
                self._end_channels()
                self.is_closing = True
                self.send(0, methods.ConnectionCloseOk())
            case methods.ConnectionUpdateSecret():
                self.send(0, methods.ConnectionUpdateSecretOk())
            case _:
                raise Refusal(503, f"{type(method).__name__} on channel 0")

    def _authenticate(self, method: methods.ConnectionStartOk) -> bool:
        capabilities = method.client_properties.get("capabilities")
        self._capabilities = capabilities if isinstance(capabilities, dict) else {}
        if method.mechanism == "PLAIN":
            _authorization, _, pair = method.response.partition(b"\0")
            user, _, password = pair.partition(b"\0")
        elif method.mechanism == "AMQPLAIN":
            size = len(method.response).to_bytes(4, "big")
            table, _ = read_table(size + method.response, 0)
            user, password = (str(table.get(name, "")).encode() for name in ("LOGIN", "PASSWORD"))
        else:
            user, password = b"", b""
        if (user.decode(), password.decode()) == (self.broker.user, self.broker.password):
            return True
        if not self.knows("authentication_failure_close"):
            raise OSError("refused")  # RabbitMQ too says nothing to a client that does not expect it
        text = f"Login was refused using authentication mechanism {method.mechanism}. For details see the broker logfile."
        self.is_closing = True
        self.send(0, methods.ConnectionClose(ACCESS_REFUSED, f"ACCESS_REFUSED - {text}"))
        return False

    def _on_channel(self, command: Command) -> None:
        method, channel = command.method, self.channels.get(command.channel)
        if isinstance(method, methods.ChannelOpen):
            if channel is not None:
                raise Refusal(CHANNEL_ERROR, "second 'channel.open' seen")
            if command.channel > CHANNEL_MAX:
                raise Refusal(NOT_ALLOWED, f"channel {command.channel} is above {CHANNEL_MAX}")
            self.channels[command.channel] = Channel(command.channel, self)
            self.send(command.channel, methods.ChannelOpenOk())
        elif channel is None:
            if not isinstance(method, methods.ChannelCloseOk):
                raise Refusal(CHANNEL_ERROR, "expected 'channel.open'")
        elif isinstance(method, methods.ChannelCloseOk):
            del self.channels[command.channel]
        elif isinstance(method, methods.ChannelClose):
            if not channel.is_closing:
                channel.close()
                del self.channels[command.channel]
            self.send(command.channel, methods.ChannelCloseOk())
        elif not channel.is_closing:
            channel.handle(command)

    def _close_channel(self, channel: Channel, code: int, text: str, method: Method) -> None:
        channel.is_closing = True
        channel.close()
        self.send(channel.number, methods.ChannelClose(code, text[:255], *_numbers(method)))

    # the end

    def _last_words(self, fault: MalformedFrame) -> None:
        try:
            if self._reader.started:
                self._client.sendall(method_frame(0, methods.ConnectionClose(fault.code, str(fault)[:255])))
            else:
                self._client.sendall(PROTOCOL_HEADER)
        except OSError:
            pass

    def _end_channels(self) -> None:
        channels, self.channels = list(self.channels.values()), {}
        for channel in channels:
            if not channel.is_closing:
                channel.close()
        if self.is_open:
            self.is_open = False
            self.vhost.drop_exclusive(self)

    def _finish(self) -> None:
        self._end_channels()
        self.broker.forget(self)
        self._client.close()
        for one in self._greenlets:
            one.kill(block=False)

    def _serve_queues(self) -> None:
        for channel in list(self.channels.values()):
            for consumer in list(channel.consumers.values()):
                consumer.queue.serve()

    def _greeting(self) -> dict[str, Any]:
        capabilities: dict[str, Any] = dict.fromkeys(CAPABILITIES, True)
        return {"product": "nucleon.testing.FakeBroker", "version": "3.10.8", "platform": "Python", "capabilities": capabilities}


def _numbers(method: Method) -> tuple[int, int]:
    return method.number >> 16, method.number & 0xFFFF
