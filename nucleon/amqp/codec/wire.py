"""The kinds of method arguments, and the plan that turns a method's arguments into bytes and back."""

import struct
import typing
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from nucleon.amqp.codec.malformed import SYNTAX_ERROR, MalformedFrame
from nucleon.amqp.codec.tables import encode_table, long_string, read_long_string, read_short_string, read_table, short_string

Bit: TypeAlias = Annotated[bool, "bit"]
Octet: TypeAlias = Annotated[int, "octet"]
Short: TypeAlias = Annotated[int, "short"]
Long: TypeAlias = Annotated[int, "long"]
LongLong: TypeAlias = Annotated[int, "longlong"]
ShortString: TypeAlias = Annotated[str, "shortstr"]
LongString: TypeAlias = Annotated[bytes, "longstr"]
Table: TypeAlias = Annotated[dict[str, Any], "table"]

Reader: TypeAlias = Callable[[bytes, int, list[Any]], int]
"""Reads arguments at a place, appends them to the list and returns where they end."""
Writer: TypeAlias = Callable[[list[Any]], bytes]
Step: TypeAlias = tuple[tuple[str, ...], Reader, Writer]

_CODES = {"octet": "B", "short": "H", "long": "I", "longlong": "Q"}


def steps_from(kind: type) -> tuple[Step, ...]:
    """Return how the arguments of a method class are read and written: numbers that follow each other in one step, bits packed."""
    steps: list[Step] = []
    run: list[tuple[str, str]] = []
    hints = typing.get_type_hints(kind, include_extras=True)
    for name in kind.__struct_fields__:  # type: ignore[attr-defined]
        wire: str = hints[name].__metadata__[0]
        if run and not _follows(run[-1][1], wire):
            steps.append(_run(run))
            run = []
        if wire == "bit" or wire in _CODES:
            run.append((name, wire))
        else:
            steps.append(((name,), *_STRINGS[wire]))
    if run:
        steps.append(_run(run))
    return tuple(steps)


def _follows(before: str, wire: str) -> bool:
    return wire == "bit" if before == "bit" else wire in _CODES


def _run(run: list[tuple[str, str]]) -> Step:
    names = tuple(name for name, _ in run)
    if run[0][1] == "bit":
        return names, *_bits(len(run))
    return names, *_numbers(struct.Struct(">" + "".join(_CODES[wire] for _, wire in run)))


def _numbers(layout: struct.Struct) -> tuple[Reader, Writer]:
    def read(buffer: bytes, at: int, values: list[Any]) -> int:
        try:
            values.extend(layout.unpack_from(buffer, at))
        except struct.error:
            raise MalformedFrame("a method ends too early", SYNTAX_ERROR) from None
        return at + layout.size

    def write(values: list[Any]) -> bytes:
        try:
            return layout.pack(*values)
        except struct.error:
            raise ValueError(f"{values} do not fit in the unsigned numbers of the protocol") from None

    return read, write


def _bits(count: int) -> tuple[Reader, Writer]:
    assert count <= 8  # no method of the protocol has more

    def read(buffer: bytes, at: int, values: list[Any]) -> int:
        if at >= len(buffer):
            raise MalformedFrame("a method ends too early", SYNTAX_ERROR)
        values.extend(buffer[at] >> place & 1 == 1 for place in range(count))
        return at + 1

    def write(values: list[Any]) -> bytes:
        return bytes([sum(1 << place for place, value in enumerate(values) if value)])

    return read, write


def _one(
    read_one: Callable[[bytes, int], tuple[Any, int]], write_one: Callable[[Any], bytes]
) -> tuple[Reader, Writer]:
    def read(buffer: bytes, at: int, values: list[Any]) -> int:
        value, at = read_one(buffer, at)
        values.append(value)
        return at

    return read, lambda values: write_one(values[0])


_STRINGS = {
    "shortstr": _one(read_short_string, short_string),
    "longstr": _one(read_long_string, long_string),
    "table": _one(read_table, encode_table),
}
