"""What has to be known about commands to send them the right way: which wait, which change their connection, which only read."""

from collections.abc import Sequence
from typing import Any

from redis.commands.cluster import READ_COMMANDS

BLOCKING = frozenset(
    ["BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT", "WAITAOF", "XREAD", "XREADGROUP"],
)
"""Commands that wait on the server for as long as their caller asked: only the deadline cuts them short."""

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

_CONTAINERS = frozenset(["CLIENT", "SCRIPT", "HIMPORT"])


def spelled(args: Sequence[Any]) -> str:
    """Return the command's name as the tables have it: upper case, with its second word where the first is only a container."""
    name = args[0].decode() if isinstance(args[0], bytes) else str(args[0])
    name = name.upper()
    if name in _CONTAINERS and len(args) > 1:
        second = args[1].decode() if isinstance(args[1], bytes) else str(args[1])
        return f"{name} {second.upper()}"
    return name


def is_stateful(args: Sequence[Any]) -> bool:
    """Tell whether the command changes its connection."""
    name = spelled(args)
    return name in STATEFUL or name.startswith("HIMPORT")


def does_wait(name: str, args: Sequence[Any]) -> bool:
    """Tell whether the command waits on the server; a read of streams does so only with BLOCK."""
    if name not in BLOCKING:
        return False
    if not name.startswith("X"):
        return True
    return any(arg in (b"BLOCK", "BLOCK", b"block", "block") for arg in args[1:8])
