"""Commands on their way over a shared connection, in the order of the wire."""

from collections.abc import Iterator
from typing import Any

from greenlet import greenlet

WAITING, ANSWERED, UNSENT, LOST, LATE, TOO_LARGE = range(6)
"""What has become of a call."""


class Call:
    """A command on its way. wanted: replies still to come. raws: which replies stay bytes (None: none of them).

    copy: the place where the replies are kept, told as soon as they are here. pairs: the reply may be given as a dict.
    is_plain: nobody but the caller looks at the reply.
    """

    __slots__ = (
        "began", "by_deadline", "copy", "ends", "fate", "greenlet", "is_plain", "next", "pairs", "raws", "replies", "reply", "size",
        "wanted",
    )  # fmt: skip

    next: "Call | None"
    size: int
    wanted: int
    raws: tuple[bool, ...] | None
    replies: list[Any] | None
    reply: Any
    began: float
    ends: float
    by_deadline: bool
    copy: Any
    pairs: bool
    is_plain: bool
    fate: int
    greenlet: greenlet | None


class CallQueue:
    """Calls in the order of the wire. Each knows the next one: a `deque` costs three times as much here."""

    __slots__ = ("count", "first", "last")

    def __init__(self) -> None:
        self.first: Call | None = None
        self.last: Call | None = None
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Call]:
        call = self.first
        while call is not None:
            yield call
            call = call.next

    def append(self, call: Call) -> None:
        """Take a call that is in no queue."""
        call.next = None
        if self.last is None:
            self.first = call
        else:
            self.last.next = call
        self.last = call
        self.count += 1

    def popleft(self) -> Call:
        """Remove the first call and return it."""
        call = self.first
        assert call is not None, "nothing is in the queue"
        self.first = call.next
        call.next = None
        if self.first is None:
            self.last = None
        self.count -= 1
        return call

    def clear(self) -> None:
        """Remove them one by one: a chain that is let go at once would be freed by as many nested calls."""
        while self.count:
            self.popleft()
