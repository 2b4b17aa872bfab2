"""Counters in windows of time: `visits = cache.counter("visits:{page}", window_seconds=3600)`."""

import time
from collections.abc import Callable

from nucleon.redis.measures import check_counts, check_seconds
from nucleon.redis.patterns import KeyPattern
from nucleon.redis.scripts import Commands, Script

ADD = Script("""
local total = redis.call('INCRBY', KEYS[1], ARGV[1])
if ARGV[2] ~= '0' and redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return total
""")
"""KEYS counter; ARGV how many, milliseconds that it lives (0: for ever)."""


class Counter:
    """Whole numbers under keys made from a pattern, shared by all workers.

    window_seconds: count anew in each window of the clock (the hour, say); windows that are over are kept for `kept_windows` more, and then
    forget themselves. None: one count that stays. clock: seconds since the epoch.
    """

    def __init__(
        self,
        commands: Commands,
        key: str,
        *,
        window_seconds: float | None = None,
        kept_windows: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if window_seconds is not None:
            check_seconds(f"counter {key!r}", window_seconds=window_seconds)
        check_counts(f"counter {key!r}", 0, kept_windows=kept_windows)
        self._commands, self._pattern, self._clock = commands, KeyPattern(key, "counter"), clock
        self.window_seconds, self.kept_windows = window_seconds, kept_windows
        self.adds = 0

    def add(self, count: int = 1, **key: object) -> int:
        """Count, and return the total of this window. Raises `Unavailable` (it may have been counted), `DeadlineExceeded`."""
        milliseconds = 0 if self.window_seconds is None else round(self.window_seconds * (1 + self.kept_windows) * 1000)
        total = int(ADD.run(self._commands, [self._place(key, 0)], count, milliseconds))
        self.adds += 1
        return total

    def total(self, windows_ago: int = 0, **key: object) -> int:
        """Return the total of this window, or of one that is over; 0 when it is forgotten."""
        found = self._commands.execute_command("GET", self._place(key, windows_ago), NEVER_DECODE=True)
        return 0 if found is None else int(found)

    def reset(self, **key: object) -> None:
        """Begin this window's count anew."""
        self._commands.execute_command("DEL", self._place(key, 0))

    def _place(self, key: dict[str, object], windows_ago: int) -> str:
        name = "counter:" + self._pattern.filled(key)
        if self.window_seconds is None:
            if windows_ago:
                raise ValueError(f"counter {self._pattern.text!r} has no windows")
            return name
        return f"{name}:{int(self._clock() // self.window_seconds) - windows_ago}"

    def __repr__(self) -> str:
        window = "for ever" if self.window_seconds is None else f"in windows of {self.window_seconds:g} s"
        return f"<Counter {self._pattern.text!r} {window}: {self.adds} adds here>"
