"""What has to be known about commands to send them the right way: which wait, which change their connection, which only read."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redis.commands.cluster import READ_COMMANDS
from redis.exceptions import DataError

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
        "ASKING", "AUTH", "CLIENT CACHING", "CLIENT CAPA", "CLIENT IMPORT-SOURCE", "CLIENT NO-EVICT", "CLIENT NO-TOUCH", "CLIENT REPLY",
        "CLIENT SETINFO", "CLIENT SETNAME", "CLIENT TRACKING", "DISCARD", "EXEC", "HELLO", "MONITOR", "MULTI", "PSUBSCRIBE", "PSYNC",
        "PUNSUBSCRIBE", "QUIT", "READONLY", "READWRITE", "REPLCONF", "RESET", "SCRIPT DEBUG", "SELECT", "SHUTDOWN", "SSUBSCRIBE",
        "SUBSCRIBE", "SUNSUBSCRIBE", "SYNC", "UNSUBSCRIBE", "UNWATCH", "WATCH",
    ]
)  # fmt: skip
"""Commands that change what the connection is, or are not answered one for one: whoever used one gives back a connection that is closed."""

READS = READ_COMMANDS | {"ECHO", "INFO", "OBJECT", "PING", "TIME", "XRANGE", "XREVRANGE"}
"""Commands that change nothing: when their connection is lost they are sent again."""

FOREVER = float("inf")
_CONTAINERS = frozenset(["CLIENT", "SCRIPT", "HIMPORT"])


def spelled(args: Sequence[Any]) -> str:
    """Return the command's name as the tables have it: upper case, with its second word where the first is only a container.

    redis-py splits the first argument at blanks: "SELECT 1" is SELECT. Raises `DataError` when there is nothing in it.
    """
    words = words_of(args)
    name = words[0].decode().upper()
    if name in _CONTAINERS and len(words) + len(args) > 2:
        second = words[1] if len(words) > 1 else args[1]
        return f"{name} {(second.decode() if isinstance(second, bytes) else str(second)).upper()}"
    return name if len(words) == 1 or name in BLOCKING or name in STATEFUL else b" ".join(words).decode().upper()


def words_of(args: Sequence[Any]) -> tuple[bytes, ...]:
    """Return the words of the command's name as they go over the wire: redis-py has names of two words.

    Raises `DataError` when there is none: servers do not answer an empty command, and everybody would get the reply of another.
    """
    name: bytes = args[0] if isinstance(args[0], bytes) else (args[0] if isinstance(args[0], str) else str(args[0])).encode()
    words = tuple(name.split())
    if not words:
        raise DataError("a command needs a name: the first argument is empty")
    return words


def wrong_word(args: Sequence[Any], error: DataError) -> DataError:
    """Return redis-py's error for a command that cannot be packed, with the argument that is to blame; its value is not told."""
    fit = (str, bytes, int, float, bytearray, memoryview)
    for place, arg in enumerate(args):
        if isinstance(arg, bool) or not isinstance(arg, fit):
            return DataError(f"{error} ({args[0]}: argument {place} is of type {type(arg).__qualname__})")
    return error


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
    args = (*words_of(args), *args[1:])
    place, unit = BLOCKING[name]
    if place is None:
        place = _after_block(args)
        if not place:
            return 0.0
    try:
        seconds = float(args[place]) * unit
    except (ValueError, TypeError, IndexError):
        return FOREVER  # the server will say what is wrong with it
    return seconds if seconds > 0 else FOREVER


def _after_block(args: Sequence[Any]) -> int:
    """Return where XREAD and XREADGROUP say how long they wait, 0 when they do not."""
    at = 1
    while at < len(args) - 1:
        word = args[at]
        option = (bytes(word) if isinstance(word, (bytes, bytearray, memoryview)) else str(word).encode()).upper()
        if option == b"STREAMS":
            break
        if option == b"BLOCK":
            return at + 1
        at += {b"GROUP": 3, b"COUNT": 2, b"CLAIM": 2}.get(option, 1)
    return 0
