"""Reads names and values of a hash from the wire into a dict. This is the interpreted twin of `pairs.pyx`.

Interpreted it reads nothing: hiredis is quicker than Python.
"""


def read_pairs(_buffer: bytearray, _start: int, _stop: int, _is_text: bool) -> tuple[dict[bytes, bytes] | dict[str, str] | None, int]:
    """Return the dict that the buffer begins with at `start`, and where it ends.

    is_text: strings are decoded (UTF-8). Without a dict: `(None, start)` when it is not here whole, `(None, -1)` when it is something
    else or cannot be decoded.
    """
    return None, -1
