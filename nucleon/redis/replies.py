"""Reads the commonest replies from the wire. This is the interpreted twin of `replies.pyx`.

Interpreted it reads nothing: hiredis is quicker than Python.
"""

from typing import Any

UNREAD = object()
"""What `Replies.read` gives when it has read nothing."""
OTHER = -1


class Replies:
    """Reads one reply after the other from a buffer. end: where the last one ended; see `read`."""

    def __init__(self) -> None:
        self.end = OTHER

    def read(self, _buffer: bytearray, _start: int, _stop: int, _is_text: bool, _as_dict: bool) -> Any:
        """Return the reply that `buffer[start:stop]` begins with: a string, a number, nothing, or names and values as a dict.

        is_text: strings are decoded (UTF-8). as_dict: a list of names and values is wanted as a dict. `UNREAD`: `end` is `start` when it
        is not here whole, `OTHER` when it is something else or cannot be decoded.
        """
        return UNREAD
