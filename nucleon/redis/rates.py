"""How often something may happen: the generic cell rate algorithm (GCRA, ITU-T I.371), one Lua call for each question.

One number per key is stored: the theoretical arrival time. It expires when the key is back at its full allowance, so what is known of
clients who are gone leaves by itself.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal

from nucleon import green
from nucleon.errors import DeadlineExceeded, SetupError, TooManyRequests, Unavailable
from nucleon.redis.measures import check_counts, check_seconds, wrong_count
from nucleon.redis.patterns import escaped
from nucleon.redis.scripts import Commands, Script

log = logging.getLogger("nucleon.redis")
WhenAway = Literal["open", "closed"]

GCRA = Script("""
local now, spare = tonumber(ARGV[1]), 60000
if now < 0 then
  spare = 1
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local interval, tolerance, cost = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local arrival = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, now)
if arrival > now + tolerance then
  arrival = now + tolerance
  redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil(tolerance / 1000) + spare)
end
local ahead = arrival - now + interval * cost
if ahead > tolerance then return {0, arrival - now, ahead - tolerance} end
if cost > 0 then redis.call('SET', KEYS[1], string.format('%.0f', now + ahead), 'PX', math.ceil(ahead / 1000) + spare) end
return {1, ahead, 0}
""")
"""KEYS theoretical arrival time; ARGV now (negative: the server's clock), interval, tolerance (all in microseconds), cost.
A time beyond the whole allowance (the clock was set back, or the limit lowered) is brought back to it: nobody waits for the old clock.
By another clock than the server's a key is kept for a minute more: that clock may be held."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """May it happen? remaining: how much may happen at once after this. reset_seconds: until all of it may.

    retry_after_seconds: until the same question would be answered with yes (0: it was).
    """

    allowed: bool
    remaining: int
    reset_seconds: float
    retry_after_seconds: float


class Rate:
    """At most `limit` in `per_seconds` for each key, as a steady flow; `burst` may come at once (the whole limit by default).

    name: of the policy, and part of the key. when_away: with Redis away, "open" lets everything happen, "closed" raises `Unavailable`.
    by: whose requests count together when it is given to a route as `limits=`: "client" (the address), "user" (what auth returned), "all",
    or a function of the request (None: not limited). each_route: count every route for itself. patience_seconds: for Redis to answer; one
    that does not is away, and is asked again after `PAUSE_SECONDS`: a limit must not slow down what it protects.
    clock: seconds since the epoch; by default the server's own clock, so that machines need not agree.
    """

    PAUSE_SECONDS = 0.5

    def __init__(
        self,
        commands: Commands,
        name: str,
        limit: int,
        *,
        per_seconds: float,
        burst: int | None = None,
        when_away: WhenAway = "open",
        by: str | Callable[[Any], object] = "client",
        each_route: bool = False,
        patience_seconds: float = 0.25,
        clock: Callable[[], float] | None = None,
    ) -> None:
        burst = limit if burst is None else burst
        check_counts(f"rate {name!r}", limit=limit, burst=burst)
        check_seconds(f"rate {name!r}", per_seconds=per_seconds, patience_seconds=patience_seconds)
        if when_away not in ("open", "closed"):
            raise SetupError(f'rate {name!r}: when_away is "open" or "closed", not {when_away!r}')
        if by not in ("client", "user", "all") and not callable(by):
            raise SetupError(f'rate {name!r}: by is "client", "user", "all" or a function of the request, not {by!r}')
        if not name or not name.isascii() or not name.isprintable() or '"' in name or "\\" in name:
            raise SetupError(f"rate {name!r}: its name goes into a header field: printable ASCII without quotes")
        self.by, self.each_route = by, each_route
        self._commands = commands
        self._clock = clock
        self.name, self.limit, self.per_seconds, self.burst, self.when_away = name, limit, per_seconds, burst, when_away
        self._interval = max(1, round(per_seconds * 1_000_000 / limit))  # whole: sums of fractions would miss the limit by one
        self.patience_seconds = patience_seconds
        self._ask_again_at = 0.0
        self.allowed = self.refused = self.unasked = 0

    def take(self, key: object = "", cost: int = 1) -> Verdict:
        """Ask whether it may happen now, and count it when it may. cost: how much of the limit it takes, a whole number.

        Raises `ValueError` for a cost that is none, or above `burst` (no waiting would help it), `Unavailable` when Redis is away and the
        rate is "closed", `DeadlineExceeded` at the deadline.
        """
        if wrong := wrong_count(cost, 0):
            raise ValueError(f"rate {self.name!r}: cost {wrong}")
        if cost > self.burst:
            raise ValueError(f"rate {self.name!r}: a cost of {cost} is above burst ({self.burst}) and would never be allowed")
        now = -1 if self._clock is None else round(self._clock() * 1_000_000)
        place = self._place(key)
        if monotonic() < self._ask_again_at:
            return self._unasked(Unavailable("Redis is not available"))
        try:
            with green.deadline(self.patience_seconds):
                reply = GCRA.run(self._commands, [place], now, self._interval, self._interval * self.burst, cost)
        except Unavailable as error:
            return self._unasked(error)
        except DeadlineExceeded:
            green.check()  # the request's own deadline
            return self._unasked(Unavailable(f"Redis did not answer within {self.patience_seconds:g} s"))
        self._ask_again_at = 0.0
        verdict = self._verdict(*reply)
        if cost:
            self.allowed += verdict.allowed
            self.refused += not verdict.allowed
        return verdict

    def require(self, key: object = "", cost: int = 1) -> Verdict:
        """As `take`, but raise `TooManyRequests` (429, with Retry-After) when it may not happen."""
        verdict = self.take(key, cost)
        if not verdict.allowed:
            raise TooManyRequests(f"more than {self.limit} in {self.per_seconds:g} s", headers={"Retry-After": retry_after(verdict)})
        return verdict

    def peek(self, key: object = "") -> Verdict:
        """Tell how things stand without counting anything."""
        return self.take(key, 0)

    def reset(self, key: object = "") -> None:
        """Give a key its whole allowance back. Raises `Unavailable`."""
        self._commands.execute_command("DEL", self._place(key))

    def _place(self, key: object) -> str:
        return f"rate:{escaped(self.name)}:{escaped(key)}"

    def _verdict(self, allowed: int, ahead: int, wait: int) -> Verdict:
        remaining = max(0, (self._interval * self.burst - ahead) // self._interval)
        return Verdict(bool(allowed), remaining, ahead / 1_000_000, wait / 1_000_000)

    def _unasked(self, error: Unavailable) -> Verdict:
        self.unasked += 1
        now = monotonic()
        if now >= self._ask_again_at:
            if not self._ask_again_at:  # one line for each time that Redis goes, not one for each request
                log.warning("rate %r cannot ask Redis (%s): %s", self.name, self.when_away, error)
            self._ask_again_at = now + self.PAUSE_SECONDS
        if self.when_away == "closed":
            raise error
        return Verdict(True, self.burst, 0.0, 0.0)

    def __repr__(self) -> str:
        return (
            f"<Rate {self.name!r} {self.limit} in {self.per_seconds:g} s: {self.allowed} allowed, {self.refused} refused, "
            f"{self.unasked} unasked (Redis away, {self.when_away})>"
        )


def retry_after(verdict: Verdict) -> str:
    """Return the value of Retry-After: whole seconds, at least 1 (RFC 9110 section 10.2.3)."""
    return str(max(1, math.ceil(verdict.retry_after_seconds)))
