"""Acknowledgements of one channel, collected for a turn of the event loop and sent in as few frames as RabbitMQ allows."""

import struct

ACK = 60 << 16 | 80
_FRAME = struct.Struct(">BHIIQBB")
_PAYLOAD_BYTES = 13  # class, method, delivery tag, one octet of bits


class Acks:
    """Which deliveries of a channel are open, and which were acknowledged since something was last sent.

    basic.ack with multiple=True takes every open delivery up to its tag, and costs RabbitMQ as much as one does. So it is used when no
    older delivery is open that nobody has settled: `collected` proves that from the deliveries themselves, in the order of their tags.
    The one who uses it tells of every delivery (`delivered`) and of every settling (`add`, `forget`).
    """

    __slots__ = ("_number", "_open", "_unsent")

    def __init__(self, number: int) -> None:
        self._number = number
        self._open: dict[int, None] = {}  # tags rise, so the first is the lowest; no more than prefetch
        self._unsent: list[int] = []

    def delivered(self, tag: int) -> None:
        """A message came that has to be settled."""
        self._open[tag] = None

    def add(self, tag: int) -> int:
        """Note an acknowledgement, to be sent with the next `collected`; return how many wait for that."""
        self._open.pop(tag, None)
        self._unsent.append(tag)
        return len(self._unsent)

    def forget(self, tag: int) -> None:
        """A message was given back or refused, which is sent at once by itself."""
        self._open.pop(tag, None)

    def collected(self) -> bytes:
        """Return the frames for what was added since the last call: one for all below the lowest open delivery, one for each other."""
        tags, self._unsent = self._unsent, []
        if len(tags) == 1:
            return self._frame(tags[0], False)
        lowest = next(iter(self._open), None)
        frames = []
        last, count = 0, 0
        for tag in tags:
            if lowest is None or tag < lowest:
                last, count = max(last, tag), count + 1
            else:
                frames.append(self._frame(tag, False))
        if count:
            frames.append(self._frame(last, count > 1))
        return b"".join(frames)

    def _frame(self, tag: int, is_multiple: bool) -> bytes:
        return _FRAME.pack(1, self._number, _PAYLOAD_BYTES, ACK, tag, is_multiple, 0xCE)
