"""Turns of the event loop: a greenlet that waits goes straight on to the next one that can run, not over the hub.

Written for the compiler: `threads.pxd` gives it C types; interpreted it does the same, slower.
"""

from typing import Any

from gevent.monkey import get_original
from greenlet import greenlet

NOBODY: Any = object()
"""What `Turn.pass_on` gives when the turn has no other greenlet."""
_to: Any = greenlet.switch  # gevent's own asks first whether the hub switches to itself


class Turn:
    """What a hub does greenlet by greenlet: it wakes those whose replies have come, or hands out requests.

    While it does, it is the `turn` of its thread. The hub goes on with it whoever gives the hub its turn back.
    """

    __slots__ = ()

    def others_follow(self) -> bool:
        """Whether other greenlets are likely to run in this turn."""
        return False

    def pass_on(self) -> Any:
        """Switch to the next greenlet of this turn; return what the one that leaves is woken with, or at once `NOBODY`."""
        return NOBODY


class Thread:
    """What a native thread is doing. turn: what its hub is in the middle of."""

    __slots__ = ("turn",)

    def __init__(self) -> None:
        self.turn: Turn | None = None

    def leave(self, hub: Any) -> Any:
        """Let others run until somebody switches to this greenlet, and return what it is woken with: the hub's own `switch`, cheaper.

        Whoever is to wake it has to know it already. hub: that of this thread; it may not ask for itself.
        """
        turn = self.turn
        if turn is not None:
            given = turn.pass_on()
            if given is not NOBODY:
                return given
        return _to(hub)


class _Here(get_original("_thread", "_local")):  # type: ignore[misc]
    def __init__(self) -> None:
        self.thread = Thread()


here: Any = _Here()
"""`here.thread` is this thread."""
