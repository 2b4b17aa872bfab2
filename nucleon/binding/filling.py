"""A plan at work: the arguments of a handler filled from a request."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nucleon.binding.call import Call
from nucleon.binding.faults import Faulty, invalid
from nucleon.binding.readers import Reader, Scalar


@dataclass
class Parameter:
    """One parameter that is read from the request, as the documentation sees it."""

    place: str
    name: str
    kind: Any
    default: Any


class Plan:
    """Fills the arguments of one handler. Stage by stage: read, then provide; so faults come before side effects."""

    __slots__ = ("arguments", "function", "guard_slot", "is_in_order", "keywords", "parameters", "stages", "takes_request", "template")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.parameters: list[Parameter] = []
        self.stages: list[tuple[tuple[tuple[int, Reader], ...], tuple[tuple[int, Callable[[Call, list[Any]], Any]], ...]]] = []
        self.arguments: tuple[int, ...] = ()
        self.keywords: dict[str, int] = {}
        self.template: list[Any] = []
        self.is_in_order = False  # the slots are the arguments, and nothing else
        self.guard_slot: int | None = None
        self.takes_request = False

    def run(self, call: Call) -> Any:
        """Call the handler. Raises `Invalid` with every fault of the request, or what a provider or the handler raises."""
        values = self.template[:]
        _fill(self.stages, call, values)
        if self.is_in_order:
            return self.function(*values)
        if self.keywords:
            keywords = {name: values[index] for name, index in self.keywords.items()}
            return self.function(*[values[index] for index in self.arguments], **keywords)
        return self.function(*[values[index] for index in self.arguments])

    def guarded(self, call: Call) -> list[Any]:
        """Run the guard alone and return the values so far, for `completed`: what stands between (a stored answer) is not for strangers."""
        values = self.template.copy()
        _fill(self.stages[:1], call, values)
        return values

    def completed(self, call: Call, values: list[Any]) -> Any:
        """Do what `run` does after the guard."""
        _fill(self.stages[1:], call, values)
        keywords = {name: values[index] for name, index in self.keywords.items()}
        return self.function(*[values[index] for index in self.arguments], **keywords)


def _fill(stages: list[Any], call: Call, values: list[Any]) -> None:
    for reading, providing in stages:
        try:
            for index, read in reading:
                if isinstance(read, Scalar):
                    scalar = read
                    values[index] = scalar.read(call)
                else:
                    values[index] = read(call)
        except Faulty:
            raise invalid(list(_all_faults(reading, call))) from None
        for index, provide in providing:
            values[index] = provide(call, values)


def _all_faults(reading: Iterable[tuple[int, Reader]], call: Call) -> Iterator[dict[str, str]]:
    for _, read in reading:
        try:
            read(call)
        except Faulty as faulty:
            yield from faulty.entries()
