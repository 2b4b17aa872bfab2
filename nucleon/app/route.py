"""One route: what was registered, and the facts about it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nucleon.app.extras import Extras
from nucleon.binding import Handler, Plan
from nucleon.message import Request, Response
from nucleon.routing import Pattern


@dataclass
class Registered:
    """A handler waiting for start-up."""

    methods: tuple[str, ...]
    pattern: Pattern
    handler: Handler
    extras: Extras


@dataclass(frozen=True)
class Route:
    """A route as the command line and the documentation see it. plan: its parameters; returns: its return annotation."""

    method: str
    pattern: str
    handler: str
    file: str
    line: int
    tags: tuple[str, ...]
    status: int | None
    plan: Plan
    returns: Any
    function: Callable[..., Any]
    read_only: bool = False


@dataclass(slots=True)
class Endpoint:
    """A compiled route: `answer` takes a request to a response, and raises what went wrong."""

    pattern: str
    answer: Callable[[Request], Response]


def route_from(registered: Registered, method: str, plan: Plan, returns: Any) -> Route:
    """Return the facts of a compiled route."""
    function = registered.handler.function
    code = getattr(inspect.unwrap(function), "__code__", None)
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"
    file, line = (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)
    extras = registered.extras
    tags = tuple(extras.get("tags", ()))
    read_only = extras.get("read_only", False)
    return Route(method, registered.pattern.text, name, file, line, tags, extras.get("status"), plan, returns, function, read_only)
