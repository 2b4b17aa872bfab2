"""Which queues a message goes to: exchanges and their bindings (AMQP 0-9-1 section 3.1.3)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

DEFAULT = ""
BUILT_IN = {
    DEFAULT: "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}


@dataclass(frozen=True)
class Binding:
    """From an exchange to a queue, or to another exchange. arguments: for a headers exchange."""

    destination: str
    is_to_queue: bool
    routing_key: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def same(self, other: "Binding") -> bool:
        """Tell whether the other binds the same two in the same way."""
        return self == other


@dataclass
class Exchange:
    """One exchange and what is bound to it."""

    name: str
    kind: str
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)

    @property
    def alternate(self) -> str | None:
        """The exchange that takes what no binding of this one matches."""
        name = self.arguments.get("alternate-exchange")
        return name if isinstance(name, str) else None

    def matching(self, routing_key: str, headers: Mapping[str, Any]) -> Iterator[Binding]:
        """Yield the bindings that take a message."""
        matches = MATCHES[self.kind]
        return (binding for binding in self.bindings if matches(binding, routing_key, headers))


def queues_for(exchanges: Mapping[str, Exchange], exchange: Exchange, routing_key: str, headers: Mapping[str, Any]) -> list[str]:
    """Return the names of the queues that a message goes to, each once, over exchanges bound to exchanges and alternates."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    waiting = [exchange]
    while waiting:
        one = waiting.pop(0)
        if one.name in seen:
            continue
        seen.add(one.name)
        if one.name == DEFAULT:
            found[routing_key] = None
            continue
        bindings = list(one.matching(routing_key, headers))
        found.update((binding.destination, None) for binding in bindings if binding.is_to_queue)
        onward: Iterable[str] = [binding.destination for binding in bindings if not binding.is_to_queue]
        if not bindings and one.alternate is not None:
            onward = [one.alternate]
        waiting.extend(exchanges[name] for name in onward if name in exchanges)
    return list(found)


def topic_matches(pattern: str, routing_key: str) -> bool:
    """Tell whether a routing key is of a pattern: `*` is one word, `#` none or more."""
    return _words_match(pattern.split(".") if pattern else [], routing_key.split(".") if routing_key else [])


def _words_match(pattern: list[str], words: list[str]) -> bool:
    reachable = {0}  # how many words the pattern so far may have taken
    for part in pattern:
        if part == "#":
            reachable = set(range(min(reachable), len(words) + 1))
        else:
            reachable = {at + 1 for at in reachable if at < len(words) and part in ("*", words[at])}
        if not reachable:
            return False
    return len(words) in reachable


def headers_match(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
    """Tell whether headers match a binding: `x-match` is all (the default), any, and either with "-with-x"."""
    how = arguments.get("x-match", "all")
    with_x = isinstance(how, str) and how.endswith("-with-x")
    wanted = {name: value for name, value in arguments.items() if name != "x-match" and (with_x or not name.startswith("x-"))}
    hits = [name in headers and (value is None or headers[name] == value) for name, value in wanted.items()]
    return any(hits) if str(how).startswith("any") else all(hits)


MATCHES: dict[str, Callable[[Binding, str, Mapping[str, Any]], bool]] = {
    "direct": lambda binding, key, headers: binding.routing_key == key,
    "fanout": lambda binding, key, headers: True,
    "topic": lambda binding, key, headers: topic_matches(binding.routing_key, key),
    "headers": lambda binding, key, headers: headers_match(binding.arguments, headers),
}
