"""Replies kept in this process, which the server tells to forget (client-side caching: https://valkey.io/topics/client-side-caching/).

A read is sent as `CLIENT CACHING YES`, the command and `PTTL`, over a shared connection in tracking mode (OPTIN). The server remembers
that this connection has read the key, and sends a push over the same connection when it changes. Replies and pushes have one order:
`Link` hands both over in it. A reply is kept only when nothing forgot its place since it was asked for; a place is forgotten by a push
for its key, by our own commands that write it, and whenever its connection is lost or replaced.
"""

from sys import getsizeof
from typing import Any

from nucleon.green.thread_numbers import thread_number
from nucleon.http.native import now
from nucleon.redis.link import Link

HEARD_SECONDS = 1.0
"""A copy counts only while its connection was heard from so recently: a network that went silent brings no pushes."""
_HEARD = HEARD_SECONDS  # with a type of C
OVERHEAD_BYTES = 640  # of a copy, beside its name, key and reply
ASK_TO_TRACK = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n"
RAW = b"!"
"""After the name of a reply that stays bytes whatever the client decodes."""
WANTED = 3
"""Replies of one tracked read: to CLIENT CACHING, to the command, to PTTL."""

KEPT = frozenset(
    [
        "BITCOUNT", "GET", "GETBIT", "GETRANGE", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "HSTRLEN", "HVALS", "LINDEX",
        "LLEN", "LRANGE", "SCARD", "SISMEMBER", "SMEMBERS", "SMISMEMBER", "STRLEN", "ZCARD", "ZCOUNT", "ZMSCORE", "ZSCORE",
    ]
)  # fmt: skip
"""Commands that read one key and whose reply is flat, so that a copy of it is cheap."""


class Made:
    """What a reader has made of a reply. by: the reader. value: None when nothing can be made of it. fresh_until: of the value."""

    __slots__ = ("by", "fresh_until", "value")

    def __init__(self, by: object, fresh_until: float, value: Any) -> None:
        self.by = by
        self.fresh_until = fresh_until
        self.value = value


class Copy:
    """The place of a reply: first asked for, then kept, then forgotten.

    link: the connection whose pushes count; None until the reply came. made: what a reader has made of the reply, for the next one.
    words: the command as its caller gave it, when it has been asked with these again. before, after: the neighbours by last use.
    thread: in which it is kept.
    """

    __slots__ = (
        "after", "asked_at", "before", "ends", "is_forgotten", "key", "link", "made", "name", "owner", "reply", "size", "thread", "words",
    )  # fmt: skip

    def __init__(self, owner: "Copies", name: bytes, key: bytes, asked_at: float) -> None:
        self.owner = owner
        self.name = name
        self.key = key
        self.asked_at = asked_at
        self.ends = 0.0
        self.link: Link | None = None
        self.reply: Any = None
        self.made: Made | None = None
        self.size = 0
        self.is_forgotten = False
        self.before: Copy | None = None
        self.after: Copy | None = None
        self.thread = 0
        self.words: tuple[Any, ...] | None = None

    def counts(self) -> bool:
        """Whether the reply may be given now, in this thread."""
        link = self.link
        if self.is_forgotten or link is None or self.thread != thread_number():
            return False
        instant = now()
        return instant <= self.ends and instant - link.received_at <= _HEARD

    def given(self) -> Any:
        """Return the reply; whoever gets it may change it."""
        reply = self.reply
        return reply.copy() if isinstance(reply, (list, dict, set)) else reply

    def settle(self, link: Link, replies: list[Any]) -> None:
        """Keep the reply that came over a connection, unless the place was forgotten meanwhile. Called in the order of the wire."""
        if not self.is_forgotten:
            self.owner.keep(self, link, replies)


class Copies:
    """The copies of one worker, bounded; the one used longest ago gives way.

    most_bytes, most_entries: bounds. prefixes: of the keys that are kept. seconds: a copy is asked for again after that at the latest.
    encoding: that of keys given as text.
    """

    def __init__(self, *, most_bytes: int, most_entries: int, prefixes: tuple[bytes, ...], seconds: float, encoding: str) -> None:
        self.most_bytes, self.most_entries = most_bytes, most_entries
        self.prefixes, self.seconds, self.encoding = prefixes, seconds, encoding
        self.bytes = 0
        self.hits = self.misses = self.forgotten = 0
        self._kept: dict[bytes, Copy] = {}
        self._oldest: Copy | None = None
        self._newest: Copy | None = None
        self._by_words: dict[tuple[Any, ...], Copy] = {}
        """Copies that were asked for again in the same words, which are quicker to look up than to pack."""
        self._places: dict[bytes, dict[bytes, Copy]] = {}
        """By key, then by name: what is kept, and what is asked for just now."""

    def __len__(self) -> int:
        return len(self._kept)

    def key_of(self, key: Any) -> bytes | None:
        """Return the key as the server will name it, when replies about it are kept."""
        try:
            raw = self.raw(key)
            if raw.startswith(self.prefixes):
                raw.decode(self.encoding)  # the push names it as text when responses are decoded
                return raw
        except UnicodeError:
            pass
        return None

    def raw(self, key: Any) -> bytes:
        """Return a key as it goes over the wire."""
        if isinstance(key, str):
            return key.encode(self.encoding)
        return key if type(key) is bytes else bytes(key) if isinstance(key, (bytearray, memoryview)) else str(key).encode()

    def find(self, name: bytes) -> Copy | None:
        """Return a copy that counts now. name: the packed command."""
        copy = self._kept.get(name)
        if copy is None or not copy.counts():
            return None
        self.touch(copy)
        return copy

    def touch(self, copy: Copy) -> None:
        """A copy is used: it gives way last."""
        self.hits += 1
        if copy is not self._newest and not copy.is_forgotten:
            self._take_out(copy)
            self._put_last(copy)

    def said(self, words: tuple[Any, ...]) -> Copy | None:
        """Return a copy that counts now and that was remembered by these words."""
        copy = self._by_words.get(words)
        if copy is None or not copy.counts():
            return None
        self.touch(copy)
        return copy

    def remember(self, copy: Copy, words: tuple[Any, ...]) -> None:
        """Find a copy that is kept by these words, too: text only, which say the same whenever they are equal."""
        if copy.words is None and not copy.is_forgotten:
            copy.words = words
            self._by_words[words] = copy

    def begin(self, name: bytes, key: bytes) -> Copy | None:
        """Make the place for a reply that is about to be asked for; None when somebody else asks for it just now."""
        names = self._places.setdefault(key, {})
        before = names.get(name)
        if before is not None:
            if before.link is None:
                return None
            self._forget(before)
            names = self._places.setdefault(key, {})
        self.misses += 1
        copy = names[name] = Copy(self, name, key, now())
        return copy

    def leave(self, copy: Copy) -> None:
        """Whoever asked has gone: without a reply there is nothing to keep a place for."""
        if copy.link is None and not copy.is_forgotten:
            self._forget(copy)

    def keep(self, copy: Copy, link: Link, replies: list[Any]) -> None:
        """Keep a reply, when the connection tracks what it reads and the reply is none of an error or beyond the bounds."""
        tracked, reply, left = replies
        is_good = tracked in (b"OK", "OK") and isinstance(left, int) and not isinstance(reply, Exception)
        has_gone = left == -2 and reply  # between the command and PTTL
        if not is_good or has_gone or link.copies is not self or link.is_lost or link.is_retired:
            self._forget(copy)
            return
        copy.link = link
        copy.thread = thread_number()
        copy.reply = reply
        copy.reply = copy.given()
        copy.ends = copy.asked_at + (min(self.seconds, left / 1000) if left >= 0 else self.seconds)
        copy.size = _size_of(reply) + len(copy.name) + len(copy.key) + OVERHEAD_BYTES
        self.bytes += copy.size
        self._kept[copy.name] = copy
        self._put_last(copy)
        while self._oldest is not None and (self.bytes > self.most_bytes or len(self._kept) > self.most_entries):
            self._forget(self._oldest)

    def forget(self, keys: list[bytes] | None) -> None:
        """Forget what is kept and asked for about some keys; None: about all."""
        if keys is None:
            self.clear()
            return
        for key in keys:
            for copy in tuple(self._places.get(key, {}).values()):
                self.forgotten += 1
                self._forget(copy)

    def pushed(self, push: list[Any]) -> None:
        """Take a push of the server: `invalidate` with a list of keys, or with nothing after FLUSHALL."""
        if len(push) == 2 and push[0] in (b"invalidate", "invalidate"):
            keys = push[1]
            self.forget(None if keys is None else [self.raw(key) for key in keys])

    def forget_words(self) -> None:
        """Find copies by packed commands only: what is made of their replies is another thing from now on."""
        for copy in self._by_words.values():
            copy.words = None
        self._by_words.clear()

    def forget_link(self, link: Link) -> None:
        """A connection is gone, and its pushes with it."""
        for copy in [copy for copy in self._kept.values() if copy.link is link]:
            self._forget(copy)

    def clear(self) -> None:
        """Forget everything, what is asked for just now too."""
        self.forgotten += len(self._kept)
        for names in tuple(self._places.values()):
            for copy in tuple(names.values()):
                self._forget(copy)

    def _put_last(self, copy: Copy) -> None:
        copy.before, copy.after = self._newest, None
        if self._newest is None:
            self._oldest = copy
        else:
            self._newest.after = copy
        self._newest = copy

    def _take_out(self, copy: Copy) -> None:
        before, after = copy.before, copy.after
        copy.before = copy.after = None
        if before is None:
            self._oldest = after
        else:
            before.after = after
        if after is None:
            self._newest = before
        else:
            after.before = before

    def _forget(self, copy: Copy) -> None:
        copy.is_forgotten = True
        copy.reply = copy.made = None  # whoever has still hold of the place holds no memory
        if self._kept.get(copy.name) is copy:
            del self._kept[copy.name]
            self.bytes -= copy.size
            self._take_out(copy)
            if copy.words is not None:
                del self._by_words[copy.words]
        names = self._places.get(copy.key)
        if names is not None and names.get(copy.name) is copy:
            del names[copy.name]
            if not names:
                del self._places[copy.key]

    def __repr__(self) -> str:
        return f"{len(self._kept)} copies of {self.bytes} bytes, {self.hits} hits, {self.misses} misses, {self.forgotten} forgotten"


def _size_of(reply: Any) -> int:
    if isinstance(reply, dict):
        return getsizeof(reply) + sum(getsizeof(key) + getsizeof(value) for key, value in reply.items())
    if isinstance(reply, (list, set)):
        return getsizeof(reply) + sum(map(getsizeof, reply))
    return getsizeof(reply)


def get_command(key: bytes) -> bytes:
    """Return the packed command that asks for a string."""
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key)


def remaining_command(key: bytes) -> bytes:
    """Return the packed command that asks how long a key will stay."""
    return b"*2\r\n$4\r\nPTTL\r\n$%d\r\n%s\r\n" % (len(key), key)
