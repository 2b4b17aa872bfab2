"""Checks of what a program says about times and numbers: where it is said, not when it is first used."""

from nucleon.errors import SetupError

SHORTEST_SECONDS, LONGEST_SECONDS = 0.001, 3_155_760_000.0  # Redis counts milliseconds; a hundred years
MOST = 2**53  # of things: whole numbers that Lua and Redis count exactly


def wrong_seconds(seconds: object, least: float = SHORTEST_SECONDS) -> str | None:
    """Return what is wrong with a number of seconds, or None. NaN and infinity are wrong, and so is text."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not least <= seconds <= LONGEST_SECONDS:
        return f"must be a number of seconds from {least:g} to {LONGEST_SECONDS:.0f} (a hundred years), not {seconds!r}"
    return None


def wrong_count(count: object, least: int = 1) -> str | None:
    """Return what is wrong with a number of things, or None."""
    if isinstance(count, bool) or not isinstance(count, int) or not least <= count <= MOST:
        return f"must be a whole number, at least {least}, not {count!r}"
    return None


def check_seconds(what: str, least: float = SHORTEST_SECONDS, **seconds: float) -> None:
    """Raise `SetupError` when one of these is no number of seconds. what: whose they are; least: 0 where none is allowed."""
    for name, one in seconds.items():
        if (wrong := wrong_seconds(one, least)) is not None:
            raise SetupError(f"{what}: {name} {wrong}")


def check_counts(what: str, least: int = 1, **counts: int) -> None:
    """Raise `SetupError` when one of these is no whole number."""
    for name, one in counts.items():
        if (wrong := wrong_count(one, least)) is not None:
            raise SetupError(f"{what}: {name} {wrong}")
