"""Answers of routes kept in Redis: `@app.get("/items/{id}", cache=cache.answers(ttl_seconds=60))`."""

import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec

from nucleon.errors import SetupError
from nucleon.redis.cache import Cache, Keeping
from nucleon.redis.copies import Copy, Made
from nucleon.redis.entries import Answer
from nucleon.redis.measures import check_counts, check_seconds
from nucleon.redis.scripts import Commands

PREFIX = "answer:"
LONGEST_KEY = 200  # characters; what is longer is replaced by its digest


class Answers:
    """A cache of answers for routes; one route or many may use it.

    by: whose answer it is, when a route has auth or takes the Request: "all" (the same for everybody), "user" (of what auth
    returned), or a function of the request. client_seconds: what clients and proxies may keep it (Cache-Control; 0: nothing is said).
    local_seconds: each worker may answer from a copy of its own for so long, without asking Redis; an invalidation takes that long to be
    seen everywhere. maximum_local: such copies in one worker. clock: seconds since the epoch. copy_of: gives the reply to GET that is
    kept in this worker until the server says that it has changed. hits: answers that this worker gave without asking Redis.
    """

    __slots__ = (
        "_asking", "_cache", "_copies", "_copy_of", "_held", "by", "client_seconds", "clock", "hits", "local_seconds", "maximum_local",
    )  # fmt: skip

    def __init__(
        self,
        commands: Commands,
        keeping: Keeping,
        *,
        by: str | Callable[[Any], object] | None = None,
        client_seconds: int = 0,
        local_seconds: float = 0,
        maximum_local: int = 1000,
        clock: Callable[[], float] = time.time,
        copy_of: Callable[[str], Copy | None] | None = None,
    ) -> None:
        if by not in (None, "all", "user") and not callable(by):
            raise SetupError(f'by is "all", "user" or a function of the request, not {by!r}')
        if keeping.stale_seconds or keeping.negative_seconds:
            raise SetupError("answers of routes are not loaded in the background, nor errors kept: no stale_seconds, no negative_seconds")
        check_seconds("answers", 0, client_seconds=client_seconds, local_seconds=local_seconds)
        check_counts("answers", maximum_local=maximum_local)
        self.by, self.client_seconds, self.local_seconds, self.maximum_local = by, client_seconds, local_seconds, maximum_local
        self.clock = clock
        self.hits = 0
        self._cache: Cache[Answer] = Cache(commands, Answer, PREFIX + "{key}", keeping, clock=clock, encoding=msgspec.msgpack)
        self._copies: dict[str, Made] = {}
        self._asking: dict[str, object] = {}  # a mark for each key that is just read, to be copied; an invalidation takes it away
        self._held: dict[str, Copy] = {}
        self._copy_of = copy_of

    def get_or(self, key: str, load: Callable[[], tuple[list[tuple[str, str]], bytes]]) -> Answer:
        """Return the answer under a key, or what `load` makes, once for many who ask at the same time. Raises as `Cache.get_or`."""
        answer = self._here(key)
        if answer is None:
            return self._asked(key, load)
        self.hits += 1
        return answer

    def _here(self, key: str) -> Answer | None:
        """Return the answer that this worker may give without asking anybody."""
        answer: Answer
        copy = self._held.get(key)
        if copy is not None:
            made = copy.made
            is_ours = made is not None and made.by is self._cache and made.value is not None
            if made is not None and is_ours and copy.counts() and self.clock() < made.fresh_until:
                owner = copy.owner
                owner.touch(copy)
                answer = made.value
                return answer
        local = self._copies.get(key)
        if local is None:
            return None
        if self.clock() < local.fresh_until:
            answer = local.value
            return answer
        self._copies.pop(key, None)
        return None

    def _asked(self, key: str, load: Callable[[], tuple[list[tuple[str, str]], bytes]]) -> Answer:
        place = _place(key)
        if self._copy_of is not None:
            shown = self._shown(key, self._copy_of(place))
            if shown is not None:
                self.hits += 1
                return shown
        if self.local_seconds:
            return self._copied(key, place, load)
        return self._cache.fetch(place, lambda: Answer(*load(), self.clock()))

    def _copied(self, key: str, place: str, load: Callable[[], tuple[list[tuple[str, str]], bytes]]) -> Answer:
        """Return the answer, and copy it unless it was invalidated here while it was on its way."""
        mark = self._asking.setdefault(key, object())
        try:
            answer = self._cache.fetch(place, lambda: Answer(*load(), self.clock()))
            if self._asking.get(key) is mark:
                while len(self._copies) >= self.maximum_local:
                    self._copies.pop(next(iter(self._copies)), None)
                self._copies[key] = Made(self, self.clock() + self.local_seconds, answer)
            return answer
        finally:
            if self._asking.get(key) is mark:
                del self._asking[key]

    def _shown(self, key: str, copy: Copy | None) -> Answer | None:
        """Return the answer in a copy that the server vouches for, and remember the copy by the key of the answer."""
        if copy is None:
            self._held.pop(key, None)
            return None
        while len(self._held) >= self.maximum_local:
            self._held.pop(next(iter(self._held)), None)
        self._held[key] = copy
        return self._cache.shown(copy)

    def key(self, path: str, query: str = "", who: object = "") -> str:
        """Return the key of an answer: the first space ends who, the first question mark the path, whatever is in them."""
        text = str(who)
        if " " in text or "%" in text:
            text = text.replace("%", "%25").replace(" ", "%20")
        if "?" in path or "%" in path:
            path = path.replace("%", "%25").replace("?", "%3F")
        return f"{text} {path}?{query}"

    def invalidate(self, path: str, query: str = "", who: object = "") -> None:
        """Forget an answer. query: the parameters that the route declares, sorted by name. who: of whom it is, as `by` says."""
        self._forget(self.key(path, query, who), self._cache.invalidate_at)

    def invalidation(self, path: str, query: str = "", who: object = "") -> Callable[[], None]:
        """Return the function that forgets it, for `after_commit`; see `Cache.invalidation`."""
        key = self.key(path, query, who)
        forget = self._cache.invalidation_at(_place(key))

        return lambda: self._forget(key, lambda _: forget())

    def _forget(self, key: str, forget: Callable[[str], None]) -> None:
        """Forget the copy here before Redis is told, and what was read until it had been."""
        self._copies.pop(key, None)
        self._asking.pop(key, None)
        try:
            forget(_place(key))
        finally:
            self._copies.pop(key, None)
            self._asking.pop(key, None)

    def __repr__(self) -> str:
        return f"<Answers: {len(self._copies)} copies here, {self.hits} given without asking, {self._cache!r}>"


def _place(key: str) -> str:
    """Return the Redis key. The path may hold anything, so braces, which would choose a slot of a cluster, are replaced."""
    if len(key) > LONGEST_KEY:
        key = blake2b(key.encode(errors="surrogateescape"), digest_size=20).hexdigest()
    elif "{" in key or "}" in key or not key.isascii():
        key = key.encode(errors="surrogateescape").hex()
    return PREFIX + key
