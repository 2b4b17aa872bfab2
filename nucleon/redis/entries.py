"""What a cache keeps under a key: a head of 32 bytes that says which writing it is and how long it is fresh, then the value."""

import secrets
from typing import Any, Literal

import msgspec

from nucleon.redis.scripts import Script

HEAD_BYTES = 32
Kind = Literal["v", "n", "i"]
"""A value; a known absence ("negative"); the mark of an invalidation."""

KINDS: dict[bytes, Kind] = {b"v": "v", b"n": "n"}


class Entry(msgspec.Struct, frozen=True, gc=False):
    """head: tells this writing from every other (b"": nothing there). kind None: nothing usable. fresh_until: seconds since the epoch."""

    head: bytes
    kind: Kind | None = None
    fresh_until: float = 0.0
    data: bytes = b""


ABSENT = Entry(b"")


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """A good answer of a route: header fields and body. at: when it was made, in seconds since the epoch."""

    headers: list[tuple[str, str]]
    body: bytes
    at: float


def entry_from(stored: bytes | None) -> Entry:
    """Read what GET returned; what this cache did not write is there, but unusable."""
    if stored is None:
        return ABSENT
    head = stored[:HEAD_BYTES]
    kind, instant = KINDS.get(head[16:17]), head[17:]
    if kind is None or len(head) < HEAD_BYTES or not instant.isdigit():
        return Entry(head)
    return Entry(head, kind, int(instant) / 1000, stored[HEAD_BYTES:])


def stored_from(kind: Kind, fresh_until: float, data: bytes = b"") -> bytes:
    """Return the bytes to store; each has a mark of its own, even for equal values."""
    return b"%s%s%015d%s" % (secrets.token_hex(8).encode(), kind.encode(), max(0, round(fresh_until * 1000)), data)


CLAIM = Script("""
local stored = redis.call('GET', KEYS[1])
if stored and string.sub(stored, 1, 32) ~= ARGV[1] then return {'found', stored} end
if redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3]) then return {'yours', stored and ARGV[1] or ''} end
return {'busy'}
""")
"""Ask for the right to load. KEYS value, claim; ARGV the head seen, token, milliseconds that the claim lasts."""

STORE = Script("""
local stored = 0
if redis.call('GETRANGE', KEYS[1], 0, 31) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  stored = 1
end
if redis.call('GET', KEYS[2]) == ARGV[4] then redis.call('DEL', KEYS[2]) end
return stored
""")
"""Store what was loaded unless the key changed, and end the claim. KEYS value, claim; ARGV head seen, bytes, milliseconds, token."""

INVALIDATE = Script("""
local marked = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
if marked.err then
  redis.call('DEL', KEYS[1])
  if string.sub(marked.err, 1, 3) ~= 'OOM' then return marked end
end
return 1
""")
"""Mark as invalidated and end the claim of a load that began before; without memory for the mark, delete. KEYS value, claim; ARGV mark,
milliseconds."""


def claim_key(place: str) -> str:
    """Return the key of the claim on a value, in the same slot of a cluster."""
    return "{" + place + "}:load"


def claimed(reply: Any) -> tuple[str, bytes]:
    """Return the verdict of `CLAIM` and what came with it."""
    return reply[0].decode(), reply[1] if len(reply) > 1 else b""
