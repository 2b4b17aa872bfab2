"""A prefix for every key: which arguments of a command are keys, and which parts of a reply.

The table is what `COMMAND` of Valkey 9.1 says in its key specifications (https://valkey.io/topics/key-specs/); a test compares it with
the server's. A command that it does not know is refused while a prefix is set: guessing would mix the keys of applications.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from redis.exceptions import DataError, RedisError

Span = tuple[int, int, int]
"""First key, last key (negative: from the end), step."""
Counted = tuple[int, int]
"""Where the number of keys stands, which follow it; step."""
Rule = tuple[Span | Counted, ...]

_FIRST: Rule = ((1, 1, 1),)
_PLACES: dict[Rule, str] = {
    _FIRST: """
        APPEND BITCOUNT BITFIELD BITFIELD_RO BITPOS DECR DECRBY DELIFEQ DUMP EXPIRE EXPIREAT EXPIRETIME GEOADD GEODIST GEOHASH
        GEOPOS GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETDEL GETEX GETRANGE GETSET HDEL HEXISTS HEXPIRE
        HEXPIREAT HEXPIRETIME HGET HGETALL HGETDEL HGETEX HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HPERSIST HPEXPIRE
        HPEXPIREAT HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSET HSETEX HSETNX HSTRLEN HTTL HVALS INCR INCRBY INCRBYFLOAT LINDEX
        LINSERT LLEN LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM MOVE PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PFADD PSETEX PTTL
        RESTORE RPOP RPUSH RPUSHX SADD SCARD SET SETBIT SETEX SETNX SETRANGE SISMEMBER SMEMBERS SMISMEMBER SPOP SRANDMEMBER SREM
        SSCAN STRLEN SUBSTR TTL TYPE XACK XADD XAUTOCLAIM XCLAIM XDEL XLEN XPENDING XRANGE XREVRANGE XSETID XTRIM ZADD ZCARD
        ZCOUNT ZINCRBY ZLEXCOUNT ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREM ZREMRANGEBYLEX
        ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE""",
    ((2, 2, 1),): """
        MEMORY|USAGE OBJECT|ENCODING OBJECT|FREQ OBJECT|IDLETIME OBJECT|REFCOUNT XGROUP|CREATE XGROUP|CREATECONSUMER
        XGROUP|DELCONSUMER XGROUP|DESTROY XGROUP|SETID XINFO|CONSUMERS XINFO|GROUPS XINFO|STREAM""",
    ((1, -1, 1),): "DEL EXISTS MGET PFCOUNT SDIFF SINTER SUNION TOUCH UNLINK WATCH PFMERGE SDIFFSTORE SINTERSTORE SUNIONSTORE",
    ((1, 2, 1),): "BLMOVE BRPOPLPUSH COPY GEOSEARCHSTORE LCS LMOVE RENAME RENAMENX RPOPLPUSH SMOVE ZRANGESTORE",
    ((2, 1),): "BLMPOP BZMPOP EVAL EVALSHA EVALSHA_RO EVAL_RO FCALL FCALL_RO",
    ((1, 1),): "LMPOP SINTERCARD ZDIFF ZINTER ZINTERCARD ZMPOP ZUNION",
    ((1, -2, 1),): "BLPOP BRPOP BZPOPMAX BZPOPMIN",
    ((1, 1, 1), (2, 1)): "ZDIFFSTORE ZINTERSTORE ZUNIONSTORE",
    ((1, -1, 2),): "MSET MSETNX",
    ((1, 2),): "MSETEX",
    ((2, -1, 1),): "BITOP",
}  # fmt: skip
_SIMPLE = frozenset(_PLACES[_FIRST].split())  # most commands: no need to look further
RULES = {name: rule for rule, names in _PLACES.items() for name in names.split()}

KEYLESS = frozenset(
    [
        "ACL", "ASKING", "AUTH", "BGREWRITEAOF", "BGSAVE", "CLIENT", "CLUSTER", "COMMAND", "COMMANDLOG", "CONFIG", "DBSIZE",
        "DEBUG", "DISCARD", "ECHO", "EXEC", "FAILOVER", "FUNCTION", "HELLO", "INFO", "LASTSAVE", "LATENCY", "LOLWUT", "MODULE",
        "MONITOR", "MULTI", "PFSELFTEST", "PING", "PSUBSCRIBE", "PSYNC", "PUBLISH", "PUBSUB", "PUNSUBSCRIBE", "QUIT",
        "READONLY", "READWRITE", "REPLCONF", "REPLICAOF", "RESET", "ROLE", "SAVE", "SCRIPT", "SELECT", "SENTINEL", "SHUTDOWN",
        "SLAVEOF", "SLOWLOG", "SPUBLISH", "SSUBSCRIBE", "SUBSCRIBE", "SUNSUBSCRIBE", "SYNC", "TIME", "UNSUBSCRIBE", "UNWATCH",
        "WAIT", "WAITAOF", "MEMORY", "OBJECT", "XGROUP", "XINFO",
    ]
)  # fmt: skip
"""First words of commands without keys; of the last four only subcommands that the rules do not name. Channels are no keys."""

REFUSED = frozenset(["CLUSTERSCAN", "FLUSHALL", "FLUSHDB", "MIGRATE", "PFDEBUG", "RANDOMKEY", "RESTORE-ASKING", "SWAPDB"])
"""Commands that would reach the keys of other applications."""

_CONTAINERS = frozenset(["MEMORY", "OBJECT", "XGROUP", "XINFO"])
_GLOB = re.compile(r"([\\*?\[\]])")


def prefixed(args: Sequence[Any], prefix: str) -> tuple[Any, ...]:
    """Return the command with the prefix before its keys and key patterns. Raises `RedisError` for a command that is not covered."""
    if args[0] in _SIMPLE and len(args) > 1:
        return (args[0], _with(args[1], prefix), *args[2:])
    first = args[0].decode() if isinstance(args[0], bytes) else str(args[0])
    words: list[Any] = [*first.split(), *args[1:]]
    spelled = len(words) - len(args) + 1  # words in the first argument: redis-py writes "XINFO STREAM"
    name = words[0].upper()
    if name in _CONTAINERS and len(words) > 1:
        whole = f"{name}|{_text(words[1]).upper()}"
        places = _places(RULES[whole], words) if whole in RULES else iter(())
    elif name in RULES:
        places = _places(RULES[name], words)
    elif name in _ODD:
        places = _ODD[name](words, prefix)
    elif name in KEYLESS:
        return tuple(args)
    else:
        why = "would reach keys of other applications" if name in REFUSED else "is not known by its keys"
        raise RedisError(f"{name} {why}: it cannot be used while [redis] prefix is set")
    for place in list(places):
        words[place] = _with(words[place], prefix)
    return (args[0], *words[spelled:])


def keys_of(args: Sequence[Any]) -> list[Any] | None:
    """Return the keys that a command names, as they are written; None when it may reach any key, or the table does not know it."""
    if args[0] in _SIMPLE and len(args) > 1:
        return [args[1]]
    first = args[0].decode() if isinstance(args[0], bytes) else str(args[0])
    words: list[Any] = [*first.split(), *args[1:]]
    name = words[0].upper()
    rule = RULES.get(f"{name}|{_text(words[1]).upper()}" if name in _CONTAINERS and len(words) > 1 else name)
    try:
        if rule is not None:
            return [words[place] for place in _places(rule, words)]
        if name in _ODD and name not in ("KEYS", "SCAN"):
            return [words[place] for place in _ODD[name](words, "")]
    except (IndexError, ValueError):  # the server will say what is wrong with it
        return None
    return [] if name in KEYLESS or name in _ODD else None


def _places(rule: Rule, words: Sequence[Any]) -> Iterator[int]:
    for one in rule:
        if len(one) == 3:
            first, last, step = one
            yield from range(first, (last if last >= 0 else len(words) + last) + 1, step)
        elif one[0] < len(words):
            count = int(words[one[0]])
            yield from range(one[0] + 1, one[0] + 1 + count * one[1], one[1])


def _streams(words: Sequence[Any], _prefix: str) -> Iterator[int]:
    at = next((place for place, word in enumerate(words) if _text(word).upper() == "STREAMS"), len(words))
    yield from range(at + 1, at + 1 + (len(words) - at - 1) // 2)


def _stored(words: Sequence[Any], _prefix: str) -> Iterator[int]:
    """GEORADIUS and GEORADIUSBYMEMBER: the key, and what STORE and STOREDIST name."""
    yield 1
    yield from (place + 1 for place, word in enumerate(words[:-1]) if place > 4 and _text(word).upper() in ("STORE", "STOREDIST"))


def _sorted(words: Sequence[Any], _prefix: str) -> Iterator[int]:
    """SORT: the key, the patterns of BY and GET, and what STORE names."""
    yield 1
    place = 2
    while place < len(words) - 1:
        word, value = _text(words[place]).upper(), _text(words[place + 1])
        if word == "STORE" or (word == "GET" and value != "#") or (word == "BY" and "*" in value):
            yield place + 1
        place += {"LIMIT": 3, "BY": 2, "GET": 2, "STORE": 2}.get(word, 1)


def _scanned(words: list[Any], prefix: str) -> Iterator[int]:
    """SCAN: the pattern of MATCH, which is put there when it is missing."""
    at = next((place for place, word in enumerate(words) if place > 1 and _text(word).upper() == "MATCH"), 0)
    if at:
        words[at + 1] = _with(words[at + 1], _GLOB.sub(r"\\\1", prefix))
    else:
        words += ["MATCH", _GLOB.sub(r"\\\1", prefix) + "*"]
    return iter(())


def _listed(words: list[Any], prefix: str) -> Iterator[int]:
    """KEYS: its pattern."""
    words[1] = _with(words[1], _GLOB.sub(r"\\\1", prefix))
    return iter(())


_ODD: dict[str, Callable[[list[Any], str], Iterator[int]]] = {
    "GEORADIUS": _stored, "GEORADIUSBYMEMBER": _stored, "KEYS": _listed, "SCAN": _scanned, "SORT": _sorted, "SORT_RO": _sorted,
    "XREAD": _streams, "XREADGROUP": _streams,
}  # fmt: skip


def _text(word: Any) -> str:
    return bytes(word).decode(errors="replace") if isinstance(word, (bytes, bytearray, memoryview)) else str(word)


def _with(key: Any, prefix: str) -> Any:
    if isinstance(key, str):
        return prefix + key
    if isinstance(key, (bytes, bytearray, memoryview)):
        return prefix.encode() + bytes(key)
    if isinstance(key, (int, float)) and not isinstance(key, bool):
        return f"{prefix}{key}"
    raise DataError(f"Invalid input of type: '{type(key).__name__}'. Convert to a bytes, string, int or float first.")


def _without(key: Any, prefix: str) -> Any:
    return key.removeprefix(prefix.encode() if isinstance(key, bytes) else prefix)


def _first_without(reply: Any, prefix: str) -> Any:
    return reply if not reply else type(reply)((_without(reply[0], prefix), *reply[1:]))


def _streams_without(reply: Any, prefix: str) -> Any:
    if isinstance(reply, dict):
        return {_without(key, prefix): entries for key, entries in reply.items()}
    return reply if not reply else [[_without(key, prefix), entries] for key, entries in reply]


REPLIES: dict[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(("BLPOP", "BRPOP", "BZPOPMIN", "BZPOPMAX", "LMPOP", "BLMPOP", "ZMPOP", "BZMPOP"), _first_without),
    **dict.fromkeys(("XREAD", "XREADGROUP"), _streams_without),
    "KEYS": lambda reply, prefix: [_without(key, prefix) for key in reply],
    "SCAN": lambda reply, prefix: [reply[0], [_without(key, prefix) for key in reply[1]]],
}
"""Commands whose replies name keys, and how the prefix is taken off again."""


def callback_without(name: str, callback: Callable[..., Any] | None, prefix: str) -> Callable[..., Any]:
    """Return a response callback that takes the prefix off before redis-py's own sees the reply."""
    strip = REPLIES[name]

    def without(reply: Any, **options: Any) -> Any:
        bare = strip(reply, prefix)
        return bare if callback is None else callback(bare, **options)

    return without
