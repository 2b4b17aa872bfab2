"""Packs a command for the wire. This is the interpreted twin of `packing.pyx`; hiredis does the work."""

from typing import Any

from hiredis import pack_command
from redis.connection import HiredisRespSerializer
from redis.exceptions import DataError

from nucleon.redis.commands import wrong_word

_serializer: Any = HiredisRespSerializer()


def pack(args: tuple[Any, ...]) -> bytes:
    """Return the command as an array of strings (RESP). Raises redis-py's `DataError` for a value that is no text, number or bytes."""
    try:
        if memoryview not in map(type, args):  # hiredis reads the memory behind one, whatever part of it the view shows
            packed: bytes = pack_command(args)
            return packed
    except TypeError:
        pass
    try:
        return b"".join(_serializer.pack(*args))
    except DataError as error:
        raise wrong_word(args, error) from None
