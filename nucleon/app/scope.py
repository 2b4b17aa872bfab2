"""Call business functions outside any request: in a command, a job, a shell, a test."""

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar, get_origin

from nucleon.binding import MISSING, Handler, Known, Provider, place_of
from nucleon.binding.call import give_back
from nucleon.binding.plan import finish_generator
from nucleon.binding.sources import taken_apart

T = TypeVar("T")


class NotGiven(TypeError):
    """A parameter that neither the caller nor the app provides."""


class Scope:
    """Injects resources and providers into the functions it calls; gives everything back at its end."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._made: dict[int, Any] = {}
        self._cleanups: list[Callable[[BaseException | None], None]] = []
        self._pending: list[int] = []

    def __enter__(self) -> "Scope":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        cleanups, self._cleanups = self._cleanups, []
        self._made.clear()
        give_back(cleanups, error)

    def call(self, function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
        """Call a function with the arguments given; those missing are injected by type, or keep their default.

        Raises `NotGiven` (a TypeError) for a parameter that neither the caller nor the app provides.
        """
        signature = inspect.signature(function)
        bound = signature.bind_partial(*arguments, **keywords)
        missing = [one for name, one in signature.parameters.items() if name not in bound.arguments]
        if not missing:
            return function(*arguments, **keywords)
        hints = Handler(function).hints()
        for parameter in missing:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            value = self._value(parameter.name, hints.get(parameter.name))
            if value is not MISSING:
                bound.arguments[parameter.name] = value
            elif parameter.default is parameter.empty:
                where = f"{place_of(function)}: parameter {parameter.name}"
                raise NotGiven(f"{where} was not given, and the app does not provide it outside a request")
        bound.arguments = {name: bound.arguments[name] for name in signature.parameters if name in bound.arguments}
        return function(*bound.args, **bound.kwargs)

    def _value(self, name: str, annotation: Any) -> Any:
        kind, place, _ = taken_apart(annotation)
        if place is not None or kind is None or get_origin(kind) is list:
            return MISSING
        constant = self._known.constant(kind, name)
        if constant is not MISSING:
            return constant
        try:
            provider = self._known.providers.get(kind)
        except TypeError:
            return MISSING
        return MISSING if provider is None else self._provided(provider)

    def _provided(self, provider: Provider) -> Any:
        key = id(provider)
        if key in self._made:
            return self._made[key]
        if key in self._pending:
            raise TypeError(f"{place_of(provider.handler.function)}: providers need each other in a circle")
        self._pending.append(key)
        try:
            made = self.call(provider.handler.function)
            if provider.is_generator:
                generator = made
                made = next(generator)
                self._cleanups.append(lambda error: finish_generator(generator, error))
        finally:
            self._pending.pop()
        self._made[key] = made
        return made
