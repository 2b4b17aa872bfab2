"""One open connection: frames to channels, heartbeat, the gate that publishers wait at. It dies once; the supervisor opens another."""

import logging
import struct
from collections import deque
from collections.abc import Callable
from copy import copy
from time import monotonic
from typing import Any

from gevent import get_hub

from nucleon.amqp.channel import Channel
from nucleon.amqp.codec import HEARTBEAT_FRAME, MalformedFrame, Method, decode_method, method_frame, methods
from nucleon.amqp.codec.frames import HEARTBEAT, METHOD
from nucleon.amqp.codec.malformed import SYNTAX_ERROR, UNEXPECTED_FRAME
from nucleon.amqp.errors import AccessRefused, AmqpError, ConnectionLost
from nucleon.amqp.handshake import Opened
from nucleon.amqp.settings import Settings
from nucleon.amqp.transport import Transport
from nucleon.green.waits import TIMED_OUT, Waits, waiter

log = logging.getLogger("nucleon.amqp")

CLOSE_SECONDS = 2.0  # patience for connection.close-ok
HUB_BLOCKED_SECONDS = 1.0  # a tick later than this was held up by the program, not by the network


class Gate:
    """What publishers wait at while RabbitMQ takes no messages."""

    __slots__ = ("_turns", "_waits")

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._turns: deque[Any] = deque()

    def wait(self, seconds: float | None) -> bool:
        """Wait until the gate opens. False: not within `seconds`."""
        turn = waiter()
        self._turns.append(turn)
        try:
            return self._waits.wait(turn, seconds) is not TIMED_OUT
        finally:
            if turn in self._turns:
                self._turns.remove(turn)

    def open(self) -> None:
        """Let everyone go on."""
        turns, self._turns = self._turns, deque()
        for turn in turns:
            self._waits.wake(turn)


class Connection:
    """An AMQP connection that was opened (`handshake.open_connection`).

    on_end: called once in the loop with what it died of; `None` when it was closed here.
    """

    def __init__(self, opened: Opened, settings: Settings, on_end: Callable[[AmqpError | None], None]) -> None:
        self.host = opened.host
        self.server = opened.server
        self.frame_max = opened.frame_max
        self.channel_max = opened.channel_max
        self.heartbeat_seconds = opened.heartbeat_seconds
        self.answer_seconds = settings.answer_seconds
        self.wait_seconds = settings.wait_seconds
        self.bridge_seconds = settings.bridge_seconds
        self.body_limit_bytes = settings.body_limit_bytes
        self.error: AmqpError | None = None
        self.blocked_reason: str | None = None
        self.blocked_at = 0.0
        self.hub_blocked_seconds = 0.0
        self.channels: dict[int, Channel] = {}
        self.waits = Waits()
        self.gate = Gate(self.waits)
        self.transport = Transport(opened.raw, opened.cipher, self.waits)
        self._frames = opened.frames
        self._on_end = on_end
        self._free: deque[int] = deque()
        self._leaving: deque[Channel] = deque()
        self._opened_channels = 0
        self._reply: Any = None
        self._quiet_beats = 0
        quarter = opened.heartbeat_seconds / 4
        self._tick_due = monotonic() + quarter
        self._heart: Any = get_hub().loop.timer(quarter, quarter, ref=False)
        self.transport.start(self._take, self._lost)
        try:
            for method in opened.early:
                self._control(method)
        except MalformedFrame as error:
            self._broken(error, error.code)
        if quarter and self.error is None:
            self._heart.start(self._beat)

    @property
    def is_open(self) -> bool:
        """Tell whether the connection may be used."""
        return self.error is None

    def channel(self, timeout: float | None = None) -> Channel:
        """Open a channel. Raises `ConnectionLost`, `NoAnswer`; `AmqpError` when all `channel_max` are in use."""
        self.check()
        while self._leaving and not self._leaving[0].is_sending():
            self._free.append(self._leaving.popleft().number)
        if self._free:
            number = self._free.popleft()
        elif self._opened_channels < self.channel_max:
            self._opened_channels += 1
            number = self._opened_channels
        else:
            raise AmqpError(f"all {self.channel_max} channels of this connection are in use: close some, or raise channel_max")
        channel = self.channels[number] = Channel(self, number)
        channel.call(methods.ChannelOpen(), timeout)
        return channel

    def patience(self, seconds: float) -> float:
        """Return for how many of these seconds a publish may wait: in an alarm no longer than until that is `bridge_seconds` old."""
        if self.blocked_reason is None:
            return seconds
        return min(seconds, max(self.blocked_at + self.bridge_seconds - monotonic(), 0.001))

    def check(self) -> None:
        """Raise what the connection died of."""
        if self.error is not None:
            raise copy(self.error)

    def forget(self, channel: Channel) -> None:
        """Take a closed channel off the list; its number may be used again when what it has sent is out."""
        if self.channels.get(channel.number) is channel:
            del self.channels[channel.number]
            if channel.is_sending():
                self._leaving.append(channel)
            else:
                self._free.append(channel.number)

    def update_secret(self, secret: str, reason: str) -> None:
        """Give RabbitMQ a new token before the old one ends (connection.update-secret)."""
        self._ask(methods.ConnectionUpdateSecret(secret.encode(), reason), self.answer_seconds)

    def close(self) -> None:
        """Say goodbye and close the socket; bounded by two seconds. A second call does nothing."""
        if self.error is not None:
            return
        try:
            self._ask(methods.ConnectionClose(text="goodbye"), CLOSE_SECONDS)
        except ConnectionLost:
            pass  # it went by itself meanwhile
        finally:
            self._end(ConnectionLost("the connection was closed here"), is_wanted=True)

    def drop(self) -> None:
        """Close the socket without a word."""
        self._end(ConnectionLost("the connection was closed here"), is_wanted=True)

    def _ask(self, method: Method, seconds: float) -> bool:
        self.check()
        turn = self._reply = waiter()
        self.transport.send_last(method_frame(0, method))
        try:
            reply = self.waits.wait(turn, seconds)
        finally:
            self._reply = None
        if isinstance(reply, Exception):
            raise reply
        return reply is not TIMED_OUT

    def _take(self, data: bytes) -> None:
        """Handle what came, in the loop; whatever goes wrong ends this connection and nothing else."""
        try:
            for kind, number, payload in self._frames.feed(data):
                if number:
                    channel = self.channels.get(number)
                    if channel is None:
                        raise MalformedFrame(f"a frame for channel {number}, which is not open", 504)
                    channel.take_frame(kind, payload)
                elif kind == METHOD:
                    self._control(decode_method(payload))
                elif kind != HEARTBEAT:
                    raise MalformedFrame("content on channel 0", UNEXPECTED_FRAME)
                if self.error is not None:
                    return
        except (MalformedFrame, struct.error, IndexError) as error:  # the last two: a frame shorter than its method
            code = error.code if isinstance(error, MalformedFrame) else SYNTAX_ERROR
            self._broken(error, code)
        except Exception as error:
            log.exception("a fault of ours while reading from RabbitMQ; the connection is opened again")
            self._end(ConnectionLost(f"a fault of ours while reading from RabbitMQ: {error!r}"))

    def _broken(self, error: Exception, code: int) -> None:
        self.transport.send(method_frame(0, methods.ConnectionClose(code, str(error)[:200])))
        self._end(ConnectionLost(f"RabbitMQ at {self.host[0]}:{self.host[1]} broke the protocol: {error}"))

    def _control(self, method: Method) -> None:
        if isinstance(method, methods.ConnectionBlocked):
            self.blocked_reason = method.reason or "no reason given"
            self.blocked_at = monotonic()
        elif isinstance(method, methods.ConnectionUnblocked):
            self.blocked_reason = None
            self.gate.open()
        elif isinstance(method, methods.ConnectionClose):
            self.transport.send(method_frame(0, methods.ConnectionCloseOk()))
            kind = AccessRefused if method.code in (403, 530) else ConnectionLost
            self._end(kind(f"RabbitMQ closed the connection: {method.code} {method.text}"))
        elif isinstance(method, (methods.ConnectionCloseOk, methods.ConnectionUpdateSecretOk)):
            if self._reply is not None:
                self.waits.wake(self._reply, method)
        else:
            raise MalformedFrame(f"{type(method).__name__} on channel 0", UNEXPECTED_FRAME)

    def _beat(self) -> None:
        """Send a heartbeat when nothing else was sent, and end the connection after two silent intervals. Four times in an interval."""
        now, transport = monotonic(), self.transport
        late, self._tick_due = now - self._tick_due, now + self.heartbeat_seconds / 4
        if late > HUB_BLOCKED_SECONDS:  # what came meanwhile is still in the socket: judge at the next beat
            self.hub_blocked_seconds = late
            transport.read_at = max(transport.read_at, now - self.heartbeat_seconds)
        self._quiet_beats = 0 if transport.has_written else self._quiet_beats + 1
        transport.has_written = False
        if self._quiet_beats >= 2:
            transport.send(HEARTBEAT_FRAME)
        if now - transport.read_at >= 2 * self.heartbeat_seconds and not transport.is_paused:
            self._end(ConnectionLost(self._without(f"nothing came from RabbitMQ for {now - transport.read_at:.1f} s")))

    def _without(self, what: str) -> str:
        if self.hub_blocked_seconds:
            return f"{what}; the program blocked the event loop for {self.hub_blocked_seconds:.1f} s, no heartbeat could go out"
        return what

    def _lost(self, error: Exception) -> None:
        self._end(ConnectionLost(self._without(f"the connection to RabbitMQ at {self.host[0]}:{self.host[1]} was lost: {error}")))

    def _end(self, error: AmqpError, is_wanted: bool = False) -> None:
        """Die of `error`: everyone who waits anywhere on this connection hears of it."""
        if self.error is not None:
            return
        self.error = error
        self._heart.close()
        self.transport.close()
        if self._reply is not None:
            self.waits.wake(self._reply, error)
        channels, self.channels = self.channels, {}
        for channel in channels.values():
            channel.fail(error)
        self.gate.open()
        self._on_end(None if is_wanted else error)

    def __repr__(self) -> str:
        state = "open" if self.error is None else f"closed: {self.error}"
        blocked = f", blocked: {self.blocked_reason}" if self.blocked_reason else ""
        unsent = f", {self.transport.unsent_bytes} bytes unsent" if self.transport.unsent_bytes else ""
        return f"<Connection {self.host[0]}:{self.host[1]} {state}, {len(self.channels)} channels{unsent}{blocked}>"
