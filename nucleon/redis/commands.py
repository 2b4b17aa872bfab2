"""What has to be known about commands to send them the right way: which wait, which change their connection, which only read."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redis.commands.cluster import READ_COMMANDS

BLOCKING = {
    "BLPOP": (-1, 1.0), "BRPOP": (-1, 1.0), "BLMOVE": (-1, 1.0), "BRPOPLPUSH": (-1, 1.0), "BZPOPMIN": (-1, 1.0), "BZPOPMAX": (-1, 1.0),
    "BLMPOP": (1, 1.0), "BZMPOP": (1, 1.0),
    "WAIT": (-1, 0.001), "WAITAOF": (-1, 0.001), "XREAD": (None, 0.001), "XREADGROUP": (None, 0.001),
}  # fmt: skip
"""Commands that wait on the server for as long as their caller asked: where they say how long, and in which unit (of seconds).

None: after the word BLOCK; without it they do not wait.
"""

STATEFUL = frozenset(
    [
        "ASKING", "AUTH", "CLIENT CACHING", "CLIENT NO-EVICT", "CLIENT NO-TOUCH", "CLIENT REPLY", "CLIENT SETINFO", "CLIENT SETNAME",
        "CLIENT TRACKING", "DISCARD", "EXEC", "HELLO", "MONITOR", "MULTI", "PSUBSCRIBE", "PSYNC", "PUNSUBSCRIBE", "QUIT", "READONLY",
        "READWRITE", "RESET", "SCRIPT DEBUG", "SELECT", "SHUTDOWN", "SSUBSCRIBE", "SUBSCRIBE", "SUNSUBSCRIBE", "SYNC", "UNSUBSCRIBE",
        "UNWATCH", "WATCH",
    ]
)  # fmt: skip
"""Commands that change what the connection is: whoever used one gives back a connection that is closed."""

READS = READ_COMMANDS | {"ECHO", "INFO", "OBJECT", "PING", "TIME", "XRANGE", "XREVRANGE"}
"""Commands that change nothing: when their connection is lost they are sent again."""

FOREVER = float("inf")
_CONTAINERS = frozenset(["CLIENT", "SCRIPT", "HIMPORT"])


def spelled(args: Sequence[Any]) -> str:
    """Return the command's name as the tables have it: upper case, with its second word where the first is only a container."""
    name = args[0].decode() if isinstance(args[0], bytes) else str(args[0])
    name = name.upper()
    if name in _CONTAINERS and len(args) > 1:
        second = args[1].decode() if isinstance(args[1], bytes) else str(args[1])
        return f"{name} {second.upper()}"
    return name


def words_of(args: Sequence[Any]) -> tuple[bytes, ...]:
    """Return the words of the command's name as they go over the wire: redis-py has names of two words."""
    name: bytes = args[0] if isinstance(args[0], bytes) else str(args[0]).encode()
    return tuple(name.split())


@lru_cache(1024)
def is_simple(name: Any) -> bool:
    """Tell whether the first word alone says that a command neither waits on the server nor changes its connection."""
    spelling = spelled((name,))
    return spelling not in BLOCKING and spelling not in _CONTAINERS and not is_stateful((name,))


@lru_cache(1024)
def is_read(name: Any) -> bool:
    """Tell whether commands that begin with this word change nothing."""
    return spelled((name,)) in READS


def is_stateful(args: Sequence[Any]) -> bool:
    """Tell whether the command changes its connection."""
    name = spelled(args)
    return name in STATEFUL or name.startswith("HIMPORT")


def seconds_on_server(args: Sequence[Any]) -> float:
    """Return how long the command may wait on the server: 0.0 for most, infinity when it waits until something comes."""
    name = spelled(args)
    if name not in BLOCKING:
        return 0.0
    place, unit = BLOCKING[name]
    if place is None:
        words = [arg.upper() if isinstance(arg, (str, bytes)) else arg for arg in args[:8]]
        place = next((at + 1 for at, word in enumerate(words) if word in ("BLOCK", b"BLOCK")), 0)
        if not place:
            return 0.0
    try:
        seconds = float(args[place]) * unit
    except (ValueError, TypeError, IndexError):
        return FOREVER  # the server will say what is wrong with it
    return seconds if seconds > 0 else FOREVER
