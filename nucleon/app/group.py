"""Routes under a common prefix with common extras; the app is the outermost group."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack

from nucleon.app.extras import Extras, merged
from nucleon.app.route import Registered
from nucleon.binding import Handler, caller_names, place_of
from nucleon.errors import SetupError
from nucleon.routing import pattern_from

F = TypeVar("F", bound=Callable[..., Any])


class Group:
    """Register handlers: `@group.get("/items/{id}")`. Extras given here override the group's."""

    def __init__(self, prefix: str, extras: Extras, registered: list[Registered]) -> None:
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise SetupError(f"the prefix {prefix!r} of a group begins with a slash and does not end with one")
        self.prefix = prefix
        self._extras = extras
        self._registered = registered

    def group(self, prefix: str = "", **extras: Unpack[Extras]) -> "Group":
        """Return a group inside this one."""
        return Group(self.prefix + prefix, merged(self._extras, extras, f"the group {prefix}"), self._registered)

    def get(self, path: str, **extras: Unpack[Extras]) -> Callable[[F], F]:
        """Answer GET (and HEAD) on a path."""
        return self._adder(("GET",), path, extras)

    def post(self, path: str, **extras: Unpack[Extras]) -> Callable[[F], F]:
        """Answer POST on a path."""
        return self._adder(("POST",), path, extras)

    def put(self, path: str, **extras: Unpack[Extras]) -> Callable[[F], F]:
        """Answer PUT on a path."""
        return self._adder(("PUT",), path, extras)

    def patch(self, path: str, **extras: Unpack[Extras]) -> Callable[[F], F]:
        """Answer PATCH on a path."""
        return self._adder(("PATCH",), path, extras)

    def delete(self, path: str, **extras: Unpack[Extras]) -> Callable[[F], F]:
        """Answer DELETE on a path."""
        return self._adder(("DELETE",), path, extras)

    def route(self, methods: str | Sequence[str], path: str, **extras: Unpack[Extras]) -> Callable[[F], F]:
        """Answer any methods on a path."""
        names = (methods,) if isinstance(methods, str) else tuple(methods)
        return self._adder(tuple(name.upper() for name in names), path, extras)

    def _adder(self, methods: tuple[str, ...], path: str, extras: Extras) -> Callable[[F], F]:
        local_names = caller_names(3)
        combined = merged(self._extras, extras, f"the route {self.prefix + path}")

        def add(function: F) -> F:
            try:
                pattern = pattern_from(_versioned(self.prefix + path, combined.get("version")))
            except ValueError as error:
                raise SetupError(f"{place_of(function)}: {error}") from None
            self._registered.append(Registered(methods, pattern, Handler(function, local_names), combined))
            self._changed()
            return function

        return add

    def _changed(self) -> None:
        """Called after a registration; the app forgets what it compiled."""


def _versioned(path: str, version: str | None) -> str:
    """Return a path under its version; a path that does not begin with a slash stays wrong."""
    return f"/{version}{path}" if version is not None and path[:1] in ("", "/") else path
