"""`@cache.cached("report:{day}", ttl_seconds=60)`: a function whose results are kept in Redis."""

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints

from nucleon.errors import SetupError
from nucleon.redis.cache import Cache, Keeping
from nucleon.redis.patterns import KeyPattern
from nucleon.redis.scripts import Commands

P = ParamSpec("P")
T = TypeVar("T")


class Cached(Generic[P, T]):
    """The function: call it as before. `cache`: what is behind it. `function`: without the cache."""

    def __init__(self, commands: Commands, function: Callable[P, T], key: str, keeping: Keeping) -> None:
        """Raises `SetupError` when the key does not name every parameter, or the return annotation is missing."""
        self.function = function
        self._signature = inspect.signature(function)
        name = getattr(function, "__qualname__", repr(function))
        fields, parameters = KeyPattern(key, "cache").fields, set(self._signature.parameters)
        if fields != parameters:
            raise SetupError(f"{name}: the key {key!r} names {sorted(fields)}, and the parameters are {sorted(parameters)}")
        kind: Any = get_type_hints(function, include_extras=True).get("return")
        if kind is None or kind is type(None):
            raise SetupError(f"{name}: what is cached needs a return annotation")
        self.cache: Cache[T] = Cache(commands, kind, key, keeping)
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the kept result, or call the function and keep its result. Raises as `Cache.get_or`."""
        return self.cache.get_or(self._load, **self._named(args, kwargs))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the result for these arguments."""
        self.cache.invalidate(**self._named(args, kwargs))

    def invalidation(self, *args: P.args, **kwargs: P.kwargs) -> Callable[[], None]:
        """Return the function that forgets it: `db.after_commit(report.invalidation(day))`."""
        return self.cache.invalidation(**self._named(args, kwargs))

    def _load(self, **named: Any) -> T:
        bound = inspect.BoundArguments(self._signature, dict(named))
        return self.function(*bound.args, **bound.kwargs)

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return {name: bound.arguments[name] for name in self._signature.parameters}

    def __repr__(self) -> str:
        return f"<Cached {getattr(self.function, '__qualname__', self.function)}: {self.cache!r}>"
