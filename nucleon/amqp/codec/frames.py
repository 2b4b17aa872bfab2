"""Frames: bytes to (kind, channel, payload) and back (section 4.2.3). No socket; either side of a connection."""

import struct
from collections.abc import Iterator
from typing import TypeAlias

from nucleon.amqp.codec.malformed import MalformedFrame
from nucleon.amqp.codec.method import Method, encode_method
from nucleon.amqp.codec.properties import Properties, encode_header

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
FRAME_MINIMUM = 8192
"""The frame size both sides must accept: RabbitMQ 4.1 sends and wants that much before the limits are negotiated."""

OVERHEAD = 8  # head and end octet of a frame
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

Frame: TypeAlias = tuple[int, int, bytes]
"""Kind, channel, payload."""

_HEAD = struct.Struct(">BHI")
_END = b"\xce"
_KINDS = frozenset([METHOD, HEADER, BODY, HEARTBEAT])


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Return one frame."""
    return _HEAD.pack(kind, channel, len(payload)) + payload + _END


HEARTBEAT_FRAME = frame(HEARTBEAT, 0, b"")


def method_frame(channel: int, method: Method) -> bytes:
    """Return a method as a frame. Raises `ValueError` or `TypeError` for arguments that do not fit."""
    return frame(METHOD, channel, encode_method(method))


def body_frames(channel: int, body: bytes, frame_max: int) -> Iterator[bytes]:
    """Give a body as frames no larger than `frame_max`; none when it is empty."""
    most = frame_max - OVERHEAD
    for start in range(0, len(body), most):
        yield frame(BODY, channel, body[start : start + most])


def command_frames(channel: int, method: Method, properties: Properties, body: bytes, frame_max: int) -> bytes:
    """Return a method that carries content: method, header and body frames. Raises `ValueError` or `TypeError`."""
    header = encode_header(properties, len(body))
    if len(header) + OVERHEAD > frame_max:
        raise ValueError(f"the properties take {len(header)} bytes and a frame holds {frame_max - OVERHEAD}: shorten its headers")
    return b"".join((method_frame(channel, method), frame(HEADER, channel, header), *body_frames(channel, body, frame_max)))


class FrameReader:
    """Cuts a stream into frames, wherever the network cut it.

    frame_max: the largest frame that is taken, with its 8 bytes of frame around the payload; it may be raised once the limits are agreed.
    """

    __slots__ = ("_rest", "frame_max")

    def __init__(self, frame_max: int = FRAME_MINIMUM) -> None:
        self.frame_max = frame_max
        self._rest = b""

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of an unfinished frame are held: never more than `frame_max` and one piece."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes and return the frames that are complete now. Raises `MalformedFrame`; the stream is useless after that."""
        buffer = self._rest + data if self._rest else data
        frames: list[Frame] = []
        size, at, most = len(buffer), 0, self.frame_max - OVERHEAD
        unpack = _HEAD.unpack_from
        while size - at >= OVERHEAD - 1:
            kind, channel, length = unpack(buffer, at)
            if length > most or kind not in _KINDS:
                raise _unreadable(buffer[at : at + 8], kind, length, self.frame_max)
            start = at + 7
            end = start + length
            if end >= size:
                break
            if buffer[end] != FRAME_END:
                raise MalformedFrame(f"a frame of {length} bytes does not end with 0xCE")
            frames.append((kind, channel, buffer[start:end]))
            at = end + 1
        self._rest = buffer[at:]
        return frames


def _unreadable(start: bytes, kind: int, length: int, frame_max: int) -> MalformedFrame:
    if start.startswith(b"AMQP"):
        return MalformedFrame(f"the peer speaks another version of AMQP: {start!r}")
    if kind not in _KINDS:
        return MalformedFrame(f"this is not AMQP: a frame of kind {kind} (the bytes {start!r})")
    return MalformedFrame(f"a frame of {length} bytes, more than the agreed {frame_max}")
