"""A clock that a test holds: time passes when the test says so."""

import time


class HeldClock:
    """Call it for the time in seconds; give it wherever a tool of nucleon takes `clock=`.

    at: where it begins; the present by default, so that instants stored in a server make sense to it.
    """

    def __init__(self, at: float | None = None) -> None:
        self.now = time.time() if at is None else at

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if seconds < 0:
            raise ValueError("time does not run backwards; make another clock")
        self.now += seconds

    def __repr__(self) -> str:
        return f"<HeldClock at {self.now:.3f}>"
