"""What a `Redis` offers besides its commands: each tool is usable alone, and made by one method."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from nucleon.redis.answers import Answers
from nucleon.redis.cache import Cache, Keeping
from nucleon.redis.cached import Cached
from nucleon.redis.copies import Copy
from nucleon.redis.counters import Counter
from nucleon.redis.hub import Client, Hub
from nucleon.redis.idempotency import Idempotency
from nucleon.redis.leases import Lease, Lines, OnLoss
from nucleon.redis.rates import Rate
from nucleon.redis.scripts import Commands
from nucleon.redis.streams import Stream
from nucleon.redis.topics import Topic

P = ParamSpec("P")
T = TypeVar("T")


class Offers:
    """The methods that make the tools; the client that they are mixed into sends the commands."""

    _hub: Hub | None = None
    _lines: Lines | None = None

    def of(self: Commands, kind: type[T], key: str, *, ttl_seconds: float, **keeping: Any) -> Cache[T]:
        """Return a typed cache: `items = cache.of(Item, "item:{id}", ttl_seconds=60)`. keeping: the other fields of `Keeping`."""
        return Cache(self, kind, key, Keeping(ttl_seconds=ttl_seconds, **keeping))

    def cached(self: Commands, key: str, *, ttl_seconds: float, **keeping: Any) -> Callable[[Callable[P, T]], Cached[P, T]]:
        """Keep the results of a function; the key names its parameters: `@cache.cached("report:{day}", ttl_seconds=60)`."""
        return lambda function: Cached(self, function, key, Keeping(ttl_seconds=ttl_seconds, **keeping))

    def hub(self) -> Hub:
        """Return the hub of this worker, over which any number of subscribers share one connection."""
        if self._hub is None:
            self._hub = Hub(cast(Client, self))
        return self._hub

    def topic(self, kind: type[T], channel: str) -> Topic[T]:
        """Return typed channels over the hub: `chat = cache.topic(Entry, "chat:{room}")`."""
        return Topic(self.hub(), kind, channel)

    def lease(self, name: str, *, ttl_seconds: float = 30.0, on_loss: OnLoss = "check") -> Lease:
        """Return a lock that one greenlet of all workers may hold: `with cache.lease("invoices").held(): ...`. See `Lease`."""
        if self._lines is None:
            self._lines = Lines()
        return Lease(cast(Client, self), self.hub(), name, ttl_seconds=ttl_seconds, on_loss=on_loss, lines=self._lines)

    def rate(self: Commands, name: str, limit: int, *, per_seconds: float, **options: Any) -> Rate:
        """Return a limit on how often something may happen: `cache.rate("search", 100, per_seconds=60)`. options: see `Rate`."""
        return Rate(self, name, limit, per_seconds=per_seconds, **options)

    def copy_of(self, _key: str) -> Copy | None:
        """Return what is kept of a key in this worker; the client says what that is."""
        return None

    def answers(self, *, ttl_seconds: float, **options: Any) -> Answers:
        """Return a cache for the answers of routes: `cache=cache.answers(ttl_seconds=60)`. options: see `Answers` and `Keeping`."""
        keeping = {name: options.pop(name) for name in tuple(options) if name in Keeping.__dataclass_fields__}
        return Answers(cast(Commands, self), Keeping(ttl_seconds=ttl_seconds, **keeping), copy_of=self.copy_of, **options)

    def idempotency(self: Commands, **options: Any) -> Idempotency:
        """Return a store of idempotency keys: `idempotent=cache.idempotency(ttl_seconds=3600)`. options: see `Idempotency`."""
        return Idempotency(self, **options)

    def stream(self: Commands, kind: type[T], key: str, *, maximum_length: int = 100_000) -> Stream[T]:
        """Return a typed stream: `orders = cache.stream(OrderPlaced, "orders")`."""
        return Stream(self, kind, key, maximum_length=maximum_length)

    def counter(self: Commands, key: str, **options: Any) -> Counter:
        """Return numbers that all workers share: `visits = cache.counter("visits:{page}", window_seconds=3600)`. options: `Counter`."""
        return Counter(self, key, **options)

    def stop_offers(self) -> None:
        """End what runs in the background."""
        if self._hub is not None:
            self._hub.stop()
