"""The settings of the master: how many workers, and how long they may take."""

import os
from dataclasses import dataclass, field


def usable_cores() -> int:
    """Return how many cores this process may use (a container may give fewer than the machine has)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`[process]` in the settings.

    workers: how many workers; default: one for each core.
    drain_seconds: how long running requests may go on after SIGTERM.
    kill_seconds: how much longer a worker may take to leave before it is killed.
    boot_seconds: a worker that lives this long without saying that it is ready counts as ready.
    restart_limit_seconds: the longest pause between two tries to start a worker; the pauses double from one second.
    """

    workers: int = field(default_factory=usable_cores)
    drain_seconds: float = 30.0
    kill_seconds: float = 5.0
    boot_seconds: float = 30.0
    restart_limit_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}: at least 1")
        for name in ("drain_seconds", "kill_seconds", "boot_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: at least 0")
        if self.restart_limit_seconds < 1:
            raise ValueError(f"restart_limit_seconds is {self.restart_limit_seconds}: at least 1")
