"""Field tables and arrays, with the types that RabbitMQ speaks (https://www.rabbitmq.com/amqp-0-9-1-errata, section 3).

Written: bool `t`, int `I` or `l`, float `d`, str `S`, bytes `x`, None `V`, Decimal `D`, datetime `T`, dict `F`, list and tuple `A`.
Read: all of `S T b B s u I i d f l L t D F A x V`.
"""

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from nucleon.amqp.codec.malformed import SYNTAX_ERROR, MalformedFrame

DEPTH_LIMIT = 64  # tables within tables; a hostile peer must not exhaust the stack

_OCTET = struct.Struct(">B")
_LONG = struct.Struct(">I")
_INT = struct.Struct(">i")
_LONGLONG = struct.Struct(">q")
_TIMESTAMP = struct.Struct(">Q")
_DOUBLE = struct.Struct(">d")
_DECIMAL = struct.Struct(">Bi")

_FIXED = {
    ord(kind): struct.Struct(">" + code)
    for kind, code in {"b": "b", "B": "B", "s": "h", "u": "H", "I": "i", "i": "I", "l": "q", "L": "q", "f": "f", "d": "d"}.items()
}


def short_string(text: str) -> bytes:
    """Return `text` as a short string. Raises `ValueError` above 255 bytes of UTF-8."""
    data = text.encode()
    if len(data) > 255:
        raise ValueError(f"{text[:40]!r}... has {len(data)} bytes; AMQP allows names and keys of 255 bytes at most")
    return _OCTET.pack(len(data)) + data


def long_string(data: bytes) -> bytes:
    """Return `data` behind its length of 32 bits."""
    return _LONG.pack(len(data)) + data


def seconds_from(moment: datetime) -> int:
    """Return a datetime as POSIX seconds. Raises `ValueError` when it has no time zone or lies before 1970."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone: AMQP's timestamps are UTC")
    seconds = int(moment.timestamp())
    if seconds < 0:
        raise ValueError(f"{moment!r} lies before 1970: AMQP's timestamps cannot")
    return seconds


def moment_from(seconds: int) -> datetime | int:
    """Return POSIX seconds as a datetime, or as they are when they lie beyond the year 9999 (some write milliseconds)."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return seconds


def encode_table(table: Mapping[str, Any]) -> bytes:
    """Return a field table. Raises `ValueError` or `TypeError` for what a table cannot hold."""
    parts: list[bytes] = []
    _write_table(table, parts, DEPTH_LIMIT)
    return b"".join(parts)


def _write_table(table: Mapping[str, Any], parts: list[bytes], depth: int) -> None:
    place = len(parts)
    parts.append(b"")
    for name, value in table.items():
        parts.append(short_string(name))
        _write_value(value, parts, depth)
    parts[place] = _LONG.pack(sum(map(len, parts[place + 1 :])))


def _write_value(value: Any, parts: list[bytes], depth: int) -> None:
    if isinstance(value, str):
        data = value.encode()
        parts.append(b"S" + _LONG.pack(len(data)) + data)
    elif isinstance(value, bool):
        parts.append(b"t\x01" if value else b"t\x00")
    elif isinstance(value, int):
        parts.append(_integer(value))
    elif value is None:
        parts.append(b"V")
    elif isinstance(value, float):
        parts.append(b"d" + _DOUBLE.pack(value))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        parts.append(b"x" + long_string(bytes(value)))
    elif isinstance(value, (Mapping, list, tuple)):
        _write_nested(value, parts, depth - 1)
    elif isinstance(value, datetime):
        parts.append(b"T" + _TIMESTAMP.pack(seconds_from(value)))
    elif isinstance(value, Decimal):
        parts.append(b"D" + _decimal(value))
    else:
        raise TypeError(f"a field table cannot hold {type(value).__name__} ({value!r})")


def _write_nested(value: Any, parts: list[bytes], depth: int) -> None:
    if depth < 0:
        raise ValueError(f"tables nested deeper than {DEPTH_LIMIT}")
    if isinstance(value, Mapping):
        parts.append(b"F")
        _write_table(value, parts, depth)
        return
    parts.append(b"A")
    place = len(parts)
    parts.append(b"")
    for one in value:
        _write_value(one, parts, depth)
    parts[place] = _LONG.pack(sum(map(len, parts[place + 1 :])))


def _integer(value: int) -> bytes:
    if -0x8000_0000 <= value <= 0x7FFF_FFFF:
        return b"I" + _INT.pack(value)
    try:
        return b"l" + _LONGLONG.pack(value)
    except struct.error:
        raise ValueError(f"{value} does not fit in 64 bits") from None


def _decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"{value} is not a number that AMQP knows")
    if exponent > 0:
        digits, exponent = (*digits, *[0] * exponent), 0
    unscaled = int("".join(map(str, digits))) * (-1 if sign else 1)
    try:
        return _DECIMAL.pack(-exponent, unscaled)
    except struct.error:
        raise ValueError(f"{value} does not fit: a decimal has 32 bits and at most 255 places") from None


def read_table(buffer: bytes, at: int, depth: int = DEPTH_LIMIT) -> tuple[dict[str, Any], int]:
    """Return the table at `at` and where it ends. Raises `MalformedFrame`."""
    at, end = _span(buffer, at)
    table: dict[str, Any] = {}
    while at < end:
        name, at = read_short_string(buffer, at)
        table[name], at = _read_value(buffer, at, depth)
    if at != end:
        raise MalformedFrame("a field table runs over its own length", SYNTAX_ERROR)
    return table, at


def read_short_string(buffer: bytes, at: int) -> tuple[str, int]:
    """Return the short string at `at` and where it ends. Raises `MalformedFrame`."""
    if at >= len(buffer):
        raise MalformedFrame("a method or table ends too early", SYNTAX_ERROR)
    start = at + 1
    end = start + buffer[at]
    if end > len(buffer):
        raise MalformedFrame("a short string runs over the end of its frame", SYNTAX_ERROR)
    try:
        return str(buffer[start:end], "utf-8"), end
    except UnicodeDecodeError:
        raise MalformedFrame("a short string is not UTF-8", SYNTAX_ERROR) from None


def read_long_string(buffer: bytes, at: int) -> tuple[bytes, int]:
    """Return the long string at `at` and where it ends. Raises `MalformedFrame`."""
    start, end = _span(buffer, at)
    return buffer[start:end], end


def _span(buffer: bytes, at: int) -> tuple[int, int]:
    if at + 4 > len(buffer):
        raise MalformedFrame("a method or table ends too early", SYNTAX_ERROR)
    end = at + 4 + _LONG.unpack_from(buffer, at)[0]
    if end > len(buffer):
        raise MalformedFrame("a long string or table runs over the end of its frame", SYNTAX_ERROR)
    return at + 4, end


def _read_value(buffer: bytes, at: int, depth: int) -> tuple[Any, int]:
    if at >= len(buffer):
        raise MalformedFrame("a field table ends too early", SYNTAX_ERROR)
    kind = buffer[at]
    at += 1
    if kind == 0x53:  # S
        data, at = read_long_string(buffer, at)
        try:
            return str(data, "utf-8"), at
        except UnicodeDecodeError:
            return data, at  # the protocol does not say that long strings are text
    fixed = _FIXED.get(kind)
    try:
        if fixed is not None:
            return fixed.unpack_from(buffer, at)[0], at + fixed.size
        if kind == 0x74:  # t
            return buffer[at] != 0, at + 1
        if kind == 0x54:  # T
            return moment_from(_TIMESTAMP.unpack_from(buffer, at)[0]), at + 8
        if kind == 0x44:  # D
            scale, unscaled = _DECIMAL.unpack_from(buffer, at)
            return Decimal(unscaled).scaleb(-scale), at + 5
    except (struct.error, IndexError):
        raise MalformedFrame("a field table ends too early", SYNTAX_ERROR) from None
    return _read_nested(kind, buffer, at, depth - 1)


def _read_nested(kind: int, buffer: bytes, at: int, depth: int) -> tuple[Any, int]:
    if kind == 0x56:  # V
        return None, at
    if kind == 0x78:  # x
        return read_long_string(buffer, at)
    if depth < 0:
        raise MalformedFrame(f"tables nested deeper than {DEPTH_LIMIT}", SYNTAX_ERROR)
    if kind == 0x46:  # F
        return read_table(buffer, at, depth)
    if kind == 0x41:  # A
        at, end = _span(buffer, at)
        values = []
        while at < end:
            value, at = _read_value(buffer, at, depth)
            values.append(value)
        if at != end:
            raise MalformedFrame("a field array runs over its own length", SYNTAX_ERROR)
        return values, at
    raise MalformedFrame(f"unknown field type {bytes([kind])!r}", SYNTAX_ERROR)
