"""A signature studied once at start-up: which readers fill which parameters, which providers run, in which order."""

import inspect
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

from nucleon.binding import readers
from nucleon.binding.call import Call
from nucleon.binding.filling import Parameter, Plan
from nucleon.binding.kinds import is_record, is_structured, members, plain, shown, unknown_parts
from nucleon.binding.sources import taken_apart
from nucleon.errors import SetupError
from nucleon.message import Patch, Request

BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


def place_of(function: Callable[..., Any]) -> str:
    """Return "name (file:line)" of a function, for errors at start-up."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    name = getattr(function, "__qualname__", repr(function))
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else name


@dataclass(frozen=True)
class Handler:
    """A function and the names that its annotations may use besides its module's."""

    function: Callable[..., Any]
    local_names: Mapping[str, Any] = field(default_factory=dict)

    def hints(self) -> dict[str, Any]:
        """Return its annotations, resolved. Raises `SetupError` for those that cannot be."""
        try:
            return get_type_hints(self.function, localns=dict(self.local_names) or None, include_extras=True)
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            raise SetupError(f"{place_of(self.function)}: an annotation cannot be resolved: {error}") from error


def caller_names(depth: int) -> dict[str, Any]:
    """Return the local names of the frame `depth` callers up: annotations kept as text may use them."""
    frame = sys._getframe(depth)
    return {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)


@dataclass
class Provider:
    """A function that makes the value of a type; a generator function cleans up after its yield."""

    handler: Handler
    kind: Any
    is_generator: bool


def provider_from(handler: Handler) -> Provider:
    """Study a provider: its return annotation is what it provides (of a generator function: what it yields)."""
    kind = handler.hints().get("return")
    is_generator = inspect.isgeneratorfunction(handler.function)
    if is_generator and kind is not None and get_origin(kind) is not None:
        kind = get_args(kind)[0]
    if kind is None or kind is type(None):
        raise SetupError(f"{place_of(handler.function)}: a provider needs a return annotation, the type it provides")
    return Provider(handler, kind, is_generator)


@dataclass
class Known:
    """What an app can inject: constants by type (each with the names they go by), and providers by type."""

    constants: dict[type, dict[str, Any]] = field(default_factory=dict)
    providers: dict[Any, Provider] = field(default_factory=dict)

    def constant(self, kind: Any, name: str) -> Any:
        """Return the resource of a type: the only one, or the one named as the parameter; `readers.MISSING` when unknown."""
        named = self.constants.get(kind) if isinstance(kind, type) else None
        if not named:
            return readers.MISSING
        if len(named) > 1 and name not in named:
            count = f"there are {len(named)} resources of type {kind.__name__}"
            raise SetupError(f"parameter {name}: {count}: name it one of {', '.join(named)}")
        return named[name] if name in named else next(iter(named.values()))


class Study:
    """Studies the signature of one handler (and of the providers it needs) into a `Plan`."""

    def __init__(
        self,
        handler: Handler,
        methods: Iterable[str],
        path_names: tuple[str, ...],
        known: Known,
        *,
        guard: Provider | None = None,
        admit: Callable[[Any], None] | None = None,
    ) -> None:
        """guard: runs before anything else of the request is read. admit: called with what it made; raises to refuse."""
        self.handler = handler
        self.is_bodiless = set(methods) <= BODILESS
        self.path_names = path_names
        self.known = known
        self.guard = guard
        self.admit = admit
        self.plan = Plan(handler.function)
        self.faults: list[str] = []
        self.body: str | None = None
        self.reading: list[tuple[int, readers.Reader]] = []
        self.providing: list[tuple[int, Callable[[Call, list[Any]], Any]]] = []
        self.provided: dict[int, int] = {}
        self.seen: dict[tuple[str, str], int] = {}
        self.pending: list[str] = []

    def finished(self) -> Plan:
        """Return the plan. Raises `SetupError` with everything that is wrong with the signature, one line each."""
        if self.guard is not None:
            made, admit = self._provide(self.guard), self.admit
            self.plan.guard_slot = made
            if admit is not None:
                self.providing.append((self._slot(), lambda call, values: admit(values[made])))
            self._end_stage()
        positional, keywords = self._arguments(self.handler)
        self._end_stage()
        self.plan.arguments, self.plan.keywords = tuple(positional), keywords
        self.plan.is_in_order = positional == list(range(len(self.plan.template)))
        read = {parameter.name for parameter in self.plan.parameters if parameter.place == "path"}
        where = place_of(self.handler.function)
        self.faults += [f"{where}: the path has {{{name}}}, and no parameter takes it" for name in self.path_names if name not in read]
        if self.faults:
            raise SetupError("\n".join(self.faults))
        return self.plan

    def _end_stage(self) -> None:
        if self.reading or self.providing:
            self.plan.stages.append((tuple(self.reading), tuple(self.providing)))
        self.reading, self.providing = [], []

    def _slot(self, value: Any = None) -> int:
        self.plan.template.append(value)
        return len(self.plan.template) - 1

    def _arguments(self, handler: Handler) -> tuple[list[int], dict[str, int]]:
        """Return the slots that a function's arguments come from, positional ones and keywords."""
        positional: list[int] = []
        keywords: dict[str, int] = {}
        try:
            hints = handler.hints()
        except SetupError as error:
            self.faults.append(str(error))
            return positional, keywords
        for name, parameter in inspect.signature(handler.function).parameters.items():
            where = f"{place_of(handler.function)}: parameter {name}"
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                self.faults.append(f"{where}: *args and **kwargs have no source in a request")
            elif name not in hints:
                self.faults.append(f"{where} has no annotation")
            else:
                default = readers.MISSING if parameter.default is parameter.empty else parameter.default
                try:
                    slot = self._parameter(name, hints[name], default, where)
                except SetupError as error:
                    self.faults.append(f"{where.rpartition(': ')[0]}: {error}" if not str(error).startswith(where) else str(error))
                    continue
                if parameter.kind is parameter.KEYWORD_ONLY:
                    keywords[name] = slot
                else:
                    positional.append(slot)
        return positional, keywords

    def _parameter(self, name: str, annotation: Any, default: Any, where: str) -> int:
        kind, place, other_name = taken_apart(annotation)
        if place is None and name not in self.path_names:
            injected = self._injected(name, kind)
            if injected is not None:
                return injected
        unknown = unknown_parts(kind) if get_origin(plain(kind)) is not Patch else []
        if unknown:
            raise SetupError(f"{where}: nothing provides {shown(unknown[0])} (no resource, no provider), and a request cannot carry it")
        if place is None:
            place = self._place(name, kind)
        outside = other_name or (name.replace("_", "-").title() if place == "header" else name)
        key = (place, outside)
        if key not in self.seen:
            read = self._reader(place, outside, kind, default, where)
            self.seen[key] = self._slot()
            self.reading.append((self.seen[key], read))
            self.plan.parameters.append(Parameter(place, outside, kind, default))
        return self.seen[key]

    def _place(self, name: str, kind: Any) -> str:
        if name in self.path_names:
            return "path"
        is_body = is_structured(kind) or get_origin(plain(kind)) is Patch
        if is_body and self.is_bodiless and not any(is_record(member) for member in members(kind)):
            return "body" if get_origin(plain(kind)) is Patch else "query"
        if is_body:
            return "query" if self.is_bodiless else "body"
        return "body" if bytes in members(kind) and not self.is_bodiless else "query"

    def _reader(self, place: str, name: str, kind: Any, default: Any, where: str) -> readers.Reader:
        if place == "path":
            return readers.path_reader(name, kind)
        if place in ("body", "form"):
            one_form = place == "form" and self.body == "form"
            if self.body is not None and not one_form:
                raise SetupError(f"{where}: a request has one body, and another parameter takes it already")
            self.body = place
        if place == "body":
            return readers.bytes_reader if bytes in members(kind) else readers.body_reader(kind, default)
        if place in ("query", "form"):
            if readers.is_record_of_fields(kind):
                return readers.record_reader(place, kind, default)
            return readers.query_reader(name, kind, default) if place == "query" else readers.fields_reader(place, name, kind, default)
        return (readers.header_reader if place == "header" else readers.cookie_reader)(name, kind, default)

    def _injected(self, name: str, kind: Any) -> int | None:
        if kind is Request:
            key = ("request", "")
            if key not in self.seen:
                self.seen[key] = self._slot()
                self.plan.takes_request = True
                self.reading.insert(0, (self.seen[key], lambda call: call.request))
            return self.seen[key]
        if self.guard is not None and kind == self.guard.kind:
            return self._provide(self.guard)
        constant = self.known.constant(kind, name)
        if constant is not readers.MISSING:
            return self._slot(constant)
        try:
            provider = self.known.providers.get(kind)
        except TypeError:  # an annotation that cannot be hashed is nobody's key
            return None
        return None if provider is None else self._provide(provider)

    def _provide(self, provider: Provider) -> int:
        """Return the slot of a provider's value; its own parameters come first."""
        if id(provider) in self.provided:
            return self.provided[id(provider)]
        where = place_of(provider.handler.function)
        if where in self.pending:
            raise SetupError(f"{where}: providers need each other in a circle: {' -> '.join([*self.pending, where])}")
        self.pending.append(where)
        positional, keywords = self._arguments(provider.handler)
        self.pending.pop()
        slot = self.provided[id(provider)] = self._slot()
        self.providing.append((slot, _runner(provider, tuple(positional), keywords)))
        return slot


def _runner(provider: Provider, positional: tuple[int, ...], keywords: dict[str, int]) -> Callable[[Call, list[Any]], Any]:
    function, is_generator = provider.handler.function, provider.is_generator

    def provide(call: Call, values: list[Any]) -> Any:
        made = function(*[values[index] for index in positional], **{name: values[index] for name, index in keywords.items()})
        if not is_generator:
            return made
        value = next(made)
        if call.cleanups is None:
            call.cleanups = []
        call.cleanups.append(lambda error: finish_generator(made, error))
        return value

    return provide


def finish_generator(made: Generator[Any, Any, Any], error: BaseException | None) -> None:
    """Run what a provider has after its yield; with an error, that error is raised at the yield."""
    try:
        if error is None:
            next(made)
        else:
            made.throw(error)
    except StopIteration:
        return
    except BaseException as raised:
        if raised is error:
            return
        raise
    made.close()
    raise RuntimeError(f"a provider yields once; {made!r} yielded again")
