"""The properties of a message, and the content header that carries them (section 4.2.6.1 of the specification)."""

import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from nucleon.amqp.codec.malformed import SYNTAX_ERROR, MalformedFrame
from nucleon.amqp.codec.tables import (
    encode_table,
    moment_from,
    read_short_string,
    read_table,
    seconds_from,
    short_string,
)

_HEADER = struct.Struct(">HHQH")
_TIMESTAMP = struct.Struct(">Q")
BASIC_CLASS = 60


class Properties(msgspec.Struct, frozen=True):
    """What a publisher says about a message. None: not said.

    delivery_mode: 2 is kept on disk by durable queues, 1 is not. priority: 0 to 255. expiration: milliseconds, as digits.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, Any] | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: datetime | int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


NO_PROPERTIES = Properties()


def _write_octet(value: int) -> bytes:
    if not 0 <= value <= 255:
        raise ValueError(f"delivery_mode and priority are 0 to 255, not {value}")
    return bytes([value])


def _write_timestamp(value: datetime | int) -> bytes:
    return _TIMESTAMP.pack(value if isinstance(value, int) else seconds_from(value))


def _read_octet(buffer: bytes, at: int) -> tuple[int, int]:
    if at >= len(buffer):
        raise MalformedFrame("a content header ends too early", SYNTAX_ERROR)
    return buffer[at], at + 1


def _read_timestamp(buffer: bytes, at: int) -> tuple[datetime | int, int]:
    if at + 8 > len(buffer):
        raise MalformedFrame("a content header ends too early", SYNTAX_ERROR)
    return moment_from(_TIMESTAMP.unpack_from(buffer, at)[0]), at + 8


_TEXT: tuple[Callable[..., Any], Callable[..., Any]] = (read_short_string, short_string)
_OCTET: tuple[Callable[..., Any], Callable[..., Any]] = (_read_octet, _write_octet)
_KINDS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "headers": (read_table, encode_table),
    "delivery_mode": _OCTET,
    "priority": _OCTET,
    "timestamp": (_read_timestamp, _write_timestamp),
}
FIELDS = [(0x8000 >> place, name, *_KINDS.get(name, _TEXT)) for place, name in enumerate(Properties.__struct_fields__)]
"""Flag, name, reader, writer: in the order of the wire."""


def encode_properties(properties: Properties) -> bytes:
    """Return the flags and the properties that are set. Raises `ValueError` or `TypeError`."""
    flags = 0
    parts = [b""]
    for flag, name, _, write in FIELDS:
        value = getattr(properties, name)
        if value is not None:
            flags |= flag
            parts.append(write(value))
    parts[0] = flags.to_bytes(2, "big")
    return b"".join(parts)


def decode_properties(buffer: bytes, at: int = 0) -> Properties:
    """Return the properties whose flags are at `at`, up to the end of `buffer`. Raises `MalformedFrame`."""
    if len(buffer) - at < 2:
        raise MalformedFrame("a content header ends too early", SYNTAX_ERROR)
    flags = buffer[at] << 8 | buffer[at + 1]
    at += 2
    if flags & 3:
        raise MalformedFrame("a content header has flags that no property belongs to", SYNTAX_ERROR)
    values: dict[str, Any] = {}
    for flag, name, read, _ in FIELDS:
        if flags & flag:
            values[name], at = read(buffer, at)
    if at != len(buffer):
        raise MalformedFrame(f"a content header has {len(buffer) - at} bytes too many", SYNTAX_ERROR)
    return Properties(**values)


def encode_header(properties: Properties, body_size: int) -> bytes:
    """Return the payload of a content header frame."""
    encoded = encode_properties(properties)
    return _HEADER.pack(BASIC_CLASS, 0, body_size, 0)[:-2] + encoded


def body_size_in(payload: bytes) -> int:
    """Return the body's size that a content header frame announces. Raises `MalformedFrame`."""
    if len(payload) < _HEADER.size:
        raise MalformedFrame("a content header is too short", SYNTAX_ERROR)
    class_number, weight, size, _ = _HEADER.unpack_from(payload)
    if class_number != BASIC_CLASS or weight != 0:
        raise MalformedFrame(f"a content header of class {class_number} and weight {weight}", SYNTAX_ERROR)
    return int(size)


PROPERTIES_AT = _HEADER.size - 2
"""Where the properties begin in the payload of a content header frame."""
