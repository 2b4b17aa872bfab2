"""What a method is, and its bytes."""

import struct
from collections.abc import Callable
from functools import cache
from typing import ClassVar, TypeVar

import msgspec

from nucleon.amqp.codec.malformed import COMMAND_INVALID, SYNTAX_ERROR, MalformedFrame
from nucleon.amqp.codec.wire import Step, steps_from

M = TypeVar("M", bound=type["Method"])

_NUMBER = struct.Struct(">I")


class Method(msgspec.Struct, frozen=True):
    """A method with its arguments. `number`: class and method number in one, as they stand on the wire."""

    number: ClassVar[int] = 0


BY_NUMBER: dict[int, type[Method]] = {}


def numbered(class_number: int, method_number: int) -> Callable[[M], M]:
    """Give a method class its numbers and its place in `BY_NUMBER`."""

    def enter(kind: M) -> M:
        kind.number = class_number << 16 | method_number
        BY_NUMBER[kind.number] = kind
        return kind

    return enter


@cache
def _steps(kind: type[Method]) -> tuple[Step, ...]:
    return steps_from(kind)


def encode_method(method: Method) -> bytes:
    """Return the payload of a method frame. Raises `ValueError` or `TypeError` for arguments that do not fit."""
    parts = [_NUMBER.pack(method.number)]
    for names, _, write in _steps(type(method)):
        parts.append(write([getattr(method, name) for name in names]))
    return b"".join(parts)


def decode_method(payload: bytes) -> Method:
    """Return the method in the payload of a method frame. Raises `MalformedFrame`."""
    if len(payload) < 4:
        raise MalformedFrame("a method frame is too short", SYNTAX_ERROR)
    kind = BY_NUMBER.get(_NUMBER.unpack_from(payload)[0])
    if kind is None:
        raise MalformedFrame(f"unknown method {payload[:4].hex()}", COMMAND_INVALID)
    values: list[object] = []
    at = 4
    for _, read, _ in _steps(kind):
        at = read(payload, at, values)
    if at != len(payload):
        raise MalformedFrame(f"{kind.__name__} has {len(payload) - at} bytes too many", SYNTAX_ERROR)
    return kind(*values)
