"""A trie of segments. Static segments win over parameters, parameters over the rest of the path."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from nucleon.routing.pattern import Parameter, Pattern

T = TypeVar("T")


class Match:
    """The route that answers (what was added), and the values of its path parameters as text."""

    __slots__ = ("params", "route")

    def __init__(self, route: Any, params: dict[str, str]) -> None:
        self.route = route
        self.params = params


@dataclass(frozen=True, slots=True)
class WrongMethod:
    """The path is known, the method is not; `allow` lists those that are, sorted."""

    allow: tuple[str, ...]


class NoRoute:
    """Nothing has this path."""

    __slots__ = ()


class Node:
    __slots__ = ("methods", "parameter", "rest", "static")

    def __init__(self) -> None:
        self.static: dict[str, Node] = {}
        self.parameter: Node | None = None
        self.rest: Node | None = None
        self.methods: dict[str, tuple[Any, tuple[str, ...]]] = {}


class Router(Generic[T]):
    """Add patterns at start-up, then find routes. HEAD falls back to GET; OPTIONS is the caller's when no route has it."""

    def __init__(self) -> None:
        self.root = Node()
        self.static: dict[str, dict[str, Match]] = {}

    def add(self, method: str, pattern: Pattern, route: T) -> T | None:
        """Add a route; when another has the same method and matches the same paths, return that one and add nothing."""
        node = self.root
        for segment in pattern.segments:
            if isinstance(segment, str):
                node = node.static.setdefault(segment, Node())
            elif segment.is_rest:
                node.rest = node.rest or Node()
                node = node.rest
            else:
                node.parameter = node.parameter or Node()
                node = node.parameter
        if method in node.methods:
            taken: T = node.methods[method][0]
            return taken
        node.methods[method] = (route, pattern.parameters)
        if not any(isinstance(segment, Parameter) for segment in pattern.segments):
            self.static.setdefault(pattern.text, {})[method] = Match(route, {})
        return None

    def find(self, method: str, path: str) -> "Match | WrongMethod | NoRoute":
        """Return the route of a method and a decoded path, or why there is none."""
        return found_in(self.root, self.static, method, path)


NO_ROUTE = NoRoute()


def found_in(root: Node, static: dict[str, dict[str, Match]], method: str, path: str) -> Match | WrongMethod | NoRoute:
    here = static.get(path)
    if here is not None:
        found = here.get(method)
        if found is None and method == "HEAD":
            found = here.get("GET")
        if found is not None:
            return found
    segments = path.split("/")
    if segments[0] or len(segments) == 1:  # "*", say: its first character counts as a slash
        segments = ["", *path[1:].split("/")]
    values: list[str] = []
    hit = _search(root, segments, 1, method, values, None)
    if hit is not None:
        params: dict[str, str] = {}
        for at, name in enumerate(hit[1]):
            params[name] = values[at]
        match = Match.__new__(Match)
        match.route = hit[0]
        match.params = params
        return match
    allow: set[str] = set()
    _search(root, segments, 1, method, values, allow)
    if allow:
        return WrongMethod(tuple(sorted(allow | {"OPTIONS"} | ({"HEAD"} if "GET" in allow else set()))))
    return NO_ROUTE


def _search(  # noqa: PLR0917  compiled functions that are called at C speed take no keywords
    node: Node, segments: list[str], at: int, method: str, values: list[str], allow: set[str] | None
) -> tuple[Any, tuple[str, ...]] | None:
    """Depth first, static before parameter before rest; `values` holds the path taken, `allow`, when given, the methods seen on the way."""
    if at == len(segments):
        if not node.methods:
            return None
        hit = node.methods.get(method) or (node.methods.get("GET") if method == "HEAD" else None)
        if allow is not None:
            allow.update(node.methods)
        return hit
    segment = segments[at]
    child = node.static.get(segment) if node.static else None
    if child is not None:
        hit = _search(child, segments, at + 1, method, values, allow)
        if hit is not None:
            return hit
    if node.parameter is not None and segment:
        values.append(segment)
        hit = _search(node.parameter, segments, at + 1, method, values, allow)
        if hit is not None:
            return hit
        values.pop()
    if node.rest is not None:
        values.append("/".join(segments[at:]))
        hit = _search(node.rest, segments, len(segments), method, values, allow)
        if hit is not None:
            return hit
        values.pop()
    return None
