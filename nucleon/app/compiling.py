"""Start-up: routes and providers studied, every fault reported at once."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nucleon.app.answering import endpoint_from
from nucleon.app.caching import cached
from nucleon.app.extras import Limits, listed
from nucleon.app.idempotent import once
from nucleon.app.inside import Step, chained
from nucleon.app.limiting import Rate, limited, limiting_users
from nucleon.app.reading import reading_only
from nucleon.app.route import Endpoint, Registered, Route, route_from
from nucleon.app.scopes import admitting
from nucleon.app.settings import Settings
from nucleon.app.storing import storing
from nucleon.app.transacting import beginning
from nucleon.binding import Call, Handler, Known, Plan, Provider, Study, acceptable_from, answer_from, place_of, provider_from
from nucleon.errors import SetupError
from nucleon.routing import Parameter, Pattern, Router


@dataclass
class Compiled:
    """What an app is at run time."""

    known: Known
    router: Router[Endpoint] = field(default_factory=Router)
    routes: list[Route] = field(default_factory=list)


def compiled_from(registered: list[Registered], providing: list[Handler], resources: Mapping[str, Any], settings: Settings) -> Compiled:
    """Compile an app. Raises `SetupError` with all faults, one a line."""
    faults: list[str] = []
    compiled = Compiled(_known_from(providing, resources, faults))
    owners: dict[tuple[str, tuple[str, ...]], Registered] = {}
    guards: dict[Any, Provider] = {}
    for one in registered:
        _check_conflicts(one, owners, faults)
        try:
            _add(one, compiled, registered, guards, settings)
        except SetupError as error:
            faults.append(str(error))
    if faults:
        raise SetupError("\n".join(dict.fromkeys(faults)))
    return compiled


def _known_from(providing: Iterable[Handler], resources: Mapping[str, Any], faults: list[str]) -> Known:
    known = Known()
    for name, resource in resources.items():
        known.constants.setdefault(type(resource), {})[name] = resource
    for handler in providing:
        try:
            provider = provider_from(handler)
        except SetupError as error:
            faults.append(str(error))
            continue
        other = known.providers.setdefault(provider.kind, provider)
        if other is not provider:
            first = place_of(other.handler.function)
            faults.append(f"{place_of(handler.function)}: {provider.kind} is provided already, by {first}")
    return known


def _check_conflicts(one: Registered, owners: dict[tuple[str, tuple[str, ...]], Registered], faults: list[str]) -> None:
    for method in one.methods:
        other = owners.setdefault((method, one.pattern.shape), one)
        if other is not one:
            first = place_of(other.handler.function)
            faults.append(
                f"{place_of(one.handler.function)}: {method} {one.pattern.text} matches the same paths as {other.pattern.text} of {first}"
            )


def _add(one: Registered, compiled: Compiled, registered: list[Registered], guards: dict[Any, Provider], settings: Settings) -> None:
    function, extras = one.handler.function, one.extras
    auth = extras.get("auth")
    guard = None
    if auth is not None:
        guard = guards.setdefault(auth, _guard_from(auth))
    admit = admitting(extras.get("scopes", ()))
    if admit is not None and (guard is None or guard.kind is None):
        raise SetupError(f"{place_of(function)}: scopes= needs an auth= that returns who asks, with scopes; scopes=() lifts a group's")
    plan = Study(one.handler, one.methods, one.pattern.parameters, compiled.known, guard=guard, admit=admit).finished()
    hints = one.handler.hints()
    if "return" not in hints:
        raise SetupError(f"{place_of(function)} has no return annotation; it is the schema of the answer (None: no content)")
    returns = hints["return"]
    try:
        answer = answer_from(returns, extras.get("status"), _locator(one.pattern, registered))
    except SetupError as error:
        raise SetupError(f"{place_of(function)}: {error}") from None
    limits = listed(extras.get("limits"))
    limit_bytes = next((limit.body_bytes for limit in limits if isinstance(limit, Limits)), settings.body_limit_bytes)
    rates = [limit for limit in limits if not isinstance(limit, Limits)]
    try:
        inside = _inside(one, returns, plan, rates, compiled.known)
        begin = beginning(extras.get("transaction"), compiled.known.constants)
    except SetupError as error:
        raise SetupError(f"{place_of(function)}: {error}") from None
    cache = extras.get("cache")
    respond = endpoint_from(plan, answer, acceptable_from(returns), limit_bytes, extras.get("deadline"), inside=inside, begin=begin)
    if isinstance(cache, int | str):
        respond = cached(respond, cache, is_private=guard is not None)
    if rates:
        respond = limited(respond, rates, one.pattern.text)
    if extras.get("read_only"):
        if not {"GET", "HEAD"} >= set(one.methods):
            raise SetupError(f"{place_of(function)}: read_only= is for GET and HEAD, not {', '.join(one.methods)}")
        respond = reading_only(respond)
    endpoint = Endpoint(one.pattern.text, respond)
    for method in one.methods:
        compiled.router.add(method, one.pattern, endpoint)
        compiled.routes.append(route_from(one, method, plan, returns))


def _inside(one: Registered, returns: Any, plan: Plan, rates: list[Rate], known: Known) -> Step | None:
    """Return what stands between a route's auth and its handler."""
    extras, route = one.extras, one.pattern.text
    cache, has_auth = extras.get("cache"), extras.get("auth") is not None
    steps = [
        limiting_users(rates, route, has_auth),
        once(extras.get("idempotent"), one.methods, returns, route, known.constants),
        None if cache is None or isinstance(cache, int | str) or "GET" not in one.methods else storing(cache, returns, plan, has_auth),
    ]
    return chained([step for step in steps if step is not None])


def _guard_from(auth: Callable[..., Any]) -> Provider:
    """Study a function given as auth=; unlike a provider it may return nothing."""
    handler = Handler(auth)
    kind = handler.hints().get("return", type(None))
    return Provider(handler, None, False) if kind in (None, type(None)) else provider_from(handler)


def _locator(pattern: Pattern, registered: list[Registered]) -> Callable[[Any, Call], str | None]:
    """Return a function from a created value to the path of the GET route that reads it: the collection's and one parameter more."""
    reading = next(
        (one.pattern for one in registered if "GET" in one.methods and one.pattern.shape == (*pattern.shape, "{}")),
        None,
    )
    if reading is None:
        return lambda value, call: None
    last = reading.segments[-1]
    assert isinstance(last, Parameter)
    found, own, name = reading, pattern.parameters, last.name

    def locate(value: Any, call: Call) -> str | None:
        key = value.get(name, value.get("id")) if isinstance(value, dict) else getattr(value, name, getattr(value, "id", None))
        if key is None:
            return None
        outer = dict(zip(found.parameters[:-1], (call.request.params[one] for one in own), strict=True))
        return found.path_for({**outer, name: key})

    return locate
