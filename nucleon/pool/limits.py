"""What a pool may do, and what goes wrong with one."""

from dataclasses import dataclass

from nucleon.errors import Problem, Unavailable


class PoolExhausted(Unavailable):
    """Nothing came free within the time that the taker may wait."""


class SelfDeadlock(Problem):
    """Everyone who holds a thing of the pool waits for a second one: nothing can ever come free."""

    status = 500


class PermanentFailure(Exception):
    """Raised by `create` when trying again is useless (wrong password); its problem is told at once to everyone who asks."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a pool may do. Times in seconds; 0 switches `leak_seconds`, `idle_seconds` and `lifetime_seconds` off.

    bridge_seconds: an outage shorter than this is waited out; once it has lasted longer, who asks is refused at once.
    waiting_maximum: so many may stand in line; one more is refused at once.
    """

    minimum: int = 0
    maximum: int = 10
    wait_seconds: float = 5.0
    waiting_maximum: int = 10_000
    bridge_seconds: float = 2.0
    lifetime_seconds: float = 1800.0
    idle_seconds: float = 600.0
    validate_after_seconds: float = 0.5
    validation_seconds: float = 2.0
    leak_seconds: float = 0.0
    parallel_connects: int = 2

    def __post_init__(self) -> None:
        if self.maximum < 1 or not 0 <= self.minimum <= self.maximum:
            raise ValueError(f"a pool of minimum {self.minimum} and maximum {self.maximum} cannot be")
        if self.parallel_connects < 1 or self.waiting_maximum < 0:
            raise ValueError("a pool opens at least one thing at a time, and nobody or more may wait")
