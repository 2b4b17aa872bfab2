"""Frames to whole commands: a method, and the message that follows some of them. The simple way, for either side of a connection."""

import msgspec

from nucleon.amqp.codec.frames import BODY, FRAME_MINIMUM, HEADER, HEARTBEAT, METHOD, PROTOCOL_HEADER, FrameReader
from nucleon.amqp.codec.malformed import UNEXPECTED_FRAME, MalformedFrame
from nucleon.amqp.codec.method import Method, decode_method
from nucleon.amqp.codec.methods import CARRIES_CONTENT
from nucleon.amqp.codec.properties import NO_PROPERTIES, PROPERTIES_AT, Properties, body_size_in, decode_properties

BODY_LIMIT_BYTES = 64 * 1024 * 1024


class Command(msgspec.Struct, frozen=True):
    """A method on a channel, with properties and body when it carries content."""

    channel: int
    method: Method
    properties: Properties = NO_PROPERTIES
    body: bytes = b""


class Content:
    """The header and body frames that follow a method, put together. Every body is bounded."""

    __slots__ = ("_limit", "_parts", "_properties", "body", "missing")

    def __init__(self, limit_bytes: int = BODY_LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._parts: list[bytes] = []
        self._properties = b""
        self.missing = -1  # bytes of the body still to come; -1: the header has not come
        self.body = b""

    def take(self, kind: int, payload: bytes) -> bool:
        """Take a frame; True when the content is complete. Raises `MalformedFrame`."""
        if kind == HEADER and self.missing < 0:
            self.missing = body_size_in(payload)
            if self.missing > self._limit:
                raise MalformedFrame(f"a message of {self.missing} bytes, more than the limit of {self._limit}")
            self._properties = payload
        elif kind == BODY and self.missing >= len(payload):
            self._parts.append(payload)
            self.missing -= len(payload)
        else:
            raise MalformedFrame(f"a frame of kind {kind} where content with {self.missing} bytes to come was expected", UNEXPECTED_FRAME)
        if self.missing:
            return False
        self.body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        return True

    def properties(self) -> Properties:
        """Return the properties. Raises `MalformedFrame`."""
        return decode_properties(self._properties, PROPERTIES_AT)


class CommandReader:
    """Bytes to commands.

    from_client: the stream begins with a protocol header, which `started` tells of once it has come.
    """

    def __init__(self, *, from_client: bool = False, frame_max: int = FRAME_MINIMUM, body_limit_bytes: int = BODY_LIMIT_BYTES) -> None:
        self.frames = FrameReader(frame_max)
        self.started = not from_client
        self.heartbeats = 0
        self._limit = body_limit_bytes
        self._head = b""
        self._open: dict[int, tuple[Method, Content]] = {}

    def feed(self, data: bytes) -> list[Command]:
        """Take bytes and return the commands that are complete now; heartbeats are counted. Raises `MalformedFrame`."""
        if not self.started:
            data = self._without_protocol_header(data)
        commands: list[Command] = []
        for kind, channel, payload in self.frames.feed(data):
            if kind == HEARTBEAT:
                self.heartbeats += 1
            elif kind == METHOD:
                self._method(channel, decode_method(payload), commands)
            else:
                self._content(kind, channel, payload, commands)
        return commands

    def _without_protocol_header(self, data: bytes) -> bytes:
        self._head += data
        size = len(PROTOCOL_HEADER)
        if self._head[:size] != PROTOCOL_HEADER[: len(self._head)]:
            raise MalformedFrame(f"the peer speaks another version of AMQP: {self._head[:size]!r}")
        if len(self._head) < size:
            return b""
        rest, self._head, self.started = self._head[size:], b"", True
        return rest

    def _method(self, channel: int, method: Method, commands: list[Command]) -> None:
        if channel in self._open:
            raise MalformedFrame(f"{type(method).__name__} in the middle of a message on channel {channel}", UNEXPECTED_FRAME)
        if type(method) in CARRIES_CONTENT:
            self._open[channel] = (method, Content(self._limit))
        else:
            commands.append(Command(channel, method))

    def _content(self, kind: int, channel: int, payload: bytes, commands: list[Command]) -> None:
        if channel not in self._open:
            raise MalformedFrame(f"content on channel {channel} without its method", UNEXPECTED_FRAME)
        method, content = self._open[channel]
        if content.take(kind, payload):
            del self._open[channel]
            commands.append(Command(channel, method, content.properties(), content.body))
