"""A thing of the pool, who holds it, and who waits for one. `slot.pxd` gives it C types."""

import sys
import traceback
from contextvars import ContextVar
from time import monotonic
from types import CodeType, FrameType
from typing import Any

import gevent

from nucleon.errors import Problem
from nucleon.green.waits import waiter

TURN_SECONDS = 0.03  # a pause of the hub for each of many short uses costs more than it gives others
DEPTH = 14  # frames of the borrower's stack that are kept


class Slot:
    """A thing of the pool and what the pool knows about it. touched: its user may have left something behind in it."""

    __slots__ = (
        "condemned", "expires_at", "generation", "holder", "idle_since", "leak_told", "stack", "taken_at", "thing", "touched",
        "turn_began", "turn_of", "work",
    )  # fmt: skip

    def __init__(self, thing: Any, expires_at: float, generation: int) -> None:
        self.thing = thing
        self.expires_at = expires_at
        self.generation = generation
        self.condemned: str | None = None
        self.idle_since = monotonic()
        self.holder: Any = None
        self.taken_at = 0.0
        self.leak_told = False
        self.stack: list[tuple[CodeType, int]] = []
        self.touched = False
        self.turn_of = 0
        self.turn_began = 0.0
        self.work: object = None

    def begin_turn(self, holder: Any, now: float) -> None:
        """Lend it to a greenlet; its turn began when it first took it."""
        self.holder = holder
        self.taken_at = now
        work = work_here()
        if self.turn_of != id(holder) or self.work is not work:
            self.turn_of = id(holder)
            self.work = work
            self.turn_began = now

    def is_turn_of(self, taker: Any, now: float) -> bool:
        """Whether the taker may have it again although others wait: it gave it back last, and its turn is not over."""
        return self.turn_of == id(taker) and self.work is work_here() and now - self.turn_began < TURN_SECONDS

    def condemn(self, reason: str) -> None:
        """Let it not come back into use: it is closed when it is given back."""
        self.condemned = reason
        self.expires_at = 0.0


_work: ContextVar[object] = ContextVar("nucleon_pool_work")


def work_here() -> object:
    """Return what stands for the work that runs here: each request has a context of its own, though its greenlet serves many in a row."""
    work = _work.get(None)
    if work is None:
        work = object()
        _work.set(work)
    return work


class Waiter:
    """A greenlet in the line; it gets a slot or an error."""

    __slots__ = ("error", "greenlet", "slot", "turn")

    def __init__(self) -> None:
        self.turn = waiter()
        self.greenlet = gevent.getcurrent()
        self.slot: Slot | None = None
        self.error: Problem | None = None


def stack_here() -> list[tuple[CodeType, int]]:
    """Return code and line of the callers outside this room, the innermost first: cheap to take, formatted only when somebody reads it."""
    frames: list[tuple[CodeType, int]] = []
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    while frame is not None and len(frames) < DEPTH:
        frames.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return frames


def leak_told(slot: Slot) -> str:
    """Return where a slot was taken, and where its holder is now."""
    summaries = [traceback.FrameSummary(code.co_filename, line, code.co_name) for code, line in reversed(slot.stack)]
    text = "taken by\n" + "".join(traceback.format_list(summaries))
    frame = getattr(slot.holder, "gr_frame", None)
    if frame is not None:
        return text + "its holder is now at\n" + "".join(traceback.format_stack(frame, limit=DEPTH))
    return text + ("its holder has ended" if getattr(slot.holder, "dead", False) else "its holder is running now")
