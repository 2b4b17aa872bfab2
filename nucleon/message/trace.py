"""W3C Trace Context (https://www.w3.org/TR/trace-context/): read from header fields, handed on with a new parent id.

Nothing here records spans and nothing begins a trace: who sends none gets none. The request id ties log lines together without one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import randbits

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
STATE_LIMIT = 512  # characters that everybody has to hand on (section 3.3.1.5)
MEMBERS_LIMIT = 32
LARGE_MEMBER = 128  # members above this are the first to go
KNOWN_FLAGS = 0x03  # sampled, and the random trace id of level 2; the others "MUST be set to zero"

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_KEY = r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_MEMBER = re.compile(rf"({_KEY})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a request or message belongs. trace_id: 32 hexadecimal digits; parent_id: 16; state: `tracestate`, or empty."""

    trace_id: str
    parent_id: str
    flags: int = 0
    state: str = ""

    def handed_on(self) -> "Trace":
        """Return the same trace with a new parent id, for one thing that is sent."""
        return Trace(self.trace_id, f"{randbits(64) or 1:016x}", self.flags, self.state)

    def fields(self) -> dict[str, str]:
        """Return the header fields: `traceparent` in version 00, and `tracestate` when there is one."""
        fields = {TRACEPARENT: f"00-{self.trace_id}-{self.parent_id}-{self.flags:02x}"}
        if self.state:
            fields[TRACESTATE] = self.state
        return fields


def trace_from(fields: Mapping[str, str]) -> Trace | None:
    """Return the trace of header fields with lower-case names; None without a `traceparent`, or with one that is malformed.

    A malformed `tracestate` is left out and spoils nothing else (section 4.3).
    """
    given = fields.get(TRACEPARENT)
    found = None if given is None else _PARENT.fullmatch(given)
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None) or not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return Trace(trace_id, parent_id, int(flags, 16) & KNOWN_FLAGS, state_from(fields.get(TRACESTATE, "")))


def state_from(given: str) -> str:
    """Return a `tracestate` as it is handed on: without empty members and at most 512 characters; empty when it is malformed."""
    members = [member for part in given.split(",") if (member := part.strip(" \t"))]
    matches = [_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in matches if match is not None}
    if len(keys) != len(members) or len(members) > MEMBERS_LIMIT:
        return ""
    large_first = sorted(range(len(members)), key=lambda at: (len(members[at]) <= LARGE_MEMBER, -at))
    dropped: set[int] = set()
    for at in large_first:
        kept = ",".join(member for place, member in enumerate(members) if place not in dropped)
        if len(kept) <= STATE_LIMIT:
            return kept
        dropped.add(at)
    return ""
