"""`App`: register, compose, answer."""

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any, TypeVar, Unpack

from nucleon import hooks
from nucleon.app.compiling import Compiled, compiled_from
from nucleon.app.consumers import Consumers, is_configured
from nucleon.app.consumption import ConsumeOptions, consumption_from
from nucleon.app.extras import Extras, merged
from nucleon.app.front import Front
from nucleon.app.group import F, Group
from nucleon.app.problems import is_known, problem_response, response_from, unknown_method, wrong_method
from nucleon.app.route import Registered, Route
from nucleon.app.scope import Scope
from nucleon.app.settings import Settings
from nucleon.binding import Handler, caller_names, place_of
from nucleon.errors import NotFound, SetupError
from nucleon.message import Request, Response
from nucleon.routing import WrongMethod

log = logging.getLogger("nucleon.app")
R = TypeVar("R")


class App(Group):
    """A service: routes, resources, providers, hooks. Serve it with `nucleon serve` or as any WSGI callable.

    name: for logs and the documentation. extras: for every route, such as `deadline=5`.
    """

    def __init__(self, name: str, **extras: Any) -> None:
        registered: list[Registered] = []
        super().__init__("", merged(Extras(), extras, f"the app {name}"), registered)
        self.name = name
        self.settings = Settings()
        self.resources: dict[str, Any] = {}
        self.commands: dict[str, Callable[..., Any]] = {}
        self.consumers = Consumers()
        self.optional: set[str] = set()
        self._providing: list[Handler] = []
        self._around: list[Callable[[Request], Any]] = []
        self._starting: list[Callable[..., None]] = []
        self._stopping: list[Callable[..., None]] = []
        self._mounts: list[tuple[str, Callable[..., Any]]] = []
        self._compiled: Compiled | None = None
        self._front = Front(self._around, self._now_compiled, self._elsewhere, self._observed)

    def use(self, resource: R, name: str | None = None, *, optional: bool = False) -> R:
        """Use a resource under a name (its kind when none is given), which is also its section in the settings.

        optional: the app starts without a server for it, and says so; its consumers do not run then.
        """
        if isinstance(resource, type):
            raise SetupError(f"app.use takes a resource and not its class: write app.use({resource.__name__}())")
        name = name or str(getattr(resource, "kind", type(resource).__name__.lower()))
        if name in self.resources or name in ("app", "server", "process", "log"):
            raise SetupError(f"the app {self.name} has a {name} already: give this one another name, app.use(..., name=...)")
        self.resources[name] = resource
        if optional:
            self.optional.add(name)
        if name != getattr(resource, "kind", name):
            resource.name = name  # type: ignore[attr-defined]
        self._changed()
        return resource

    def provide(self, function: F) -> F:
        """Let a function make the value for parameters of its return type; a generator function cleans up after its yield."""
        self._providing.append(Handler(function, caller_names(2)))
        self._changed()
        return function

    def around(self, function: F) -> F:
        """Run a generator function around every request: `def timing(request): ...; response = yield; ...`."""
        if not inspect.isgeneratorfunction(function):
            raise SetupError(f"{place_of(function)}: a hook around requests is a generator function: def hook(request): response = yield")
        self._around.append(function)
        return function

    def on_start(self, function: F) -> F:
        """Call a function when a worker starts, after the resources; its parameters are injected."""
        self._starting.append(function)
        return function

    def on_stop(self, function: F) -> F:
        """Call a function when a worker stops, before the resources, the last registered first."""
        self._stopping.append(function)
        return function

    def command(self, function: F) -> F:
        """Mark a function as a command for `nucleon run`."""
        self.commands[function.__name__] = function
        return function

    def consume(self, queue: str, **options: Unpack[ConsumeOptions]) -> Callable[[F], F]:
        """Call a function for every message of a RabbitMQ queue, with its body, headers and resources as a handler of requests gets them.

        Acknowledged when it returns; tried again later when it raises; in the end, or when the body is wrong, given to the dead-letter
        queue. Options as in `Consumption`; key: one routing key or several; dead_letter: True for `QUEUE.dead`, a name, or False.
        """
        local_names = caller_names(2)
        if not isinstance(queue, str):
            raise SetupError(f"@app.consume takes the name of a RabbitMQ queue, not {queue!r} (a group of a Redis stream: Consumption)")

        def add(function: F) -> F:
            self.consumers.add(consumption_from(queue, Handler(function, local_names), options))
            self._changed()
            return function

        return add

    def mount(self, prefix: str, wsgi_app: Callable[..., Any]) -> None:
        """Give every path under a prefix that no route has to a WSGI application."""
        prefix = prefix.rstrip("/")
        if (prefix and not prefix.startswith("/")) or any(prefix == other for other, _ in self._mounts):
            raise SetupError(f"cannot mount at {prefix!r}: a prefix begins with a slash, and each is used once")
        self._mounts.append((prefix, wsgi_app))
        self._mounts.sort(key=lambda mount: -len(mount[0]))

    def scope(self) -> Scope:
        """Return a scope that calls functions with their resources and providers, outside any request."""
        return Scope(self._now_compiled().known)

    def check(self) -> None:
        """Compile every route and provider. Raises `SetupError` with all faults, one a line."""
        compiled = compiled_from(self._registered, self._providing, self.resources, self.settings)
        self.consumers.check(compiled.known, self.resources)
        self._compiled = compiled
        self._front.use(compiled.router)

    def routes(self) -> list[Route]:
        """Return the facts of every route, in the order of registration."""
        return list(self._now_compiled().routes)

    def settings_types(self) -> dict[str, type]:
        """Return the settings class of every section that this app has."""
        return {"app": Settings, **{name: one.Settings for name, one in self.resources.items() if hasattr(one, "Settings")}}

    def configure(self, settings: Mapping[str, object]) -> None:
        """Take settings, section by section; sections that are absent keep their defaults."""
        own = settings.get("app")
        if isinstance(own, Settings):
            self.settings = own
            self._changed()
        for name, resource in self.resources.items():
            if name in settings:
                resource.configure(settings[name], name)

    def start(self) -> None:
        """Check, start the resources, run the start hooks: once in each worker, after the fork."""
        self._now_compiled()
        for name, resource in self.resources.items():
            if name not in self.optional or is_configured(resource):
                resource.start()
                hook = getattr(resource, "around", None)  # None: it has no need of one
                if hook is not None and hook not in self._around:
                    self._around.insert(0, hook)
        for function in self._starting:
            with self.scope() as scope:
                scope.call(function)

    def stop(self) -> None:
        """Run the stop hooks and stop the resources, the last first. What fails is logged and does not keep the rest."""
        for function in reversed(self._stopping):
            self._try(lambda function=function: self._called(function), place_of(function))  # type: ignore[misc]
        for name, resource in reversed(self.resources.items()):
            self._try(resource.stop, name)

    def respond(self, request: Request) -> Response:
        """Answer a request; whatever goes wrong becomes a problem response."""
        return self._front.respond(request)

    def _observed(self, request: Request) -> Response:
        """Answer with the hooks around, and tell who listens."""
        begun = perf_counter()
        response = self._surrounded(request, 0)
        seconds = perf_counter() - begun
        for listener in hooks.request_ended.listeners:
            listener(method=request.method, route=request.route or "", status=response.status, seconds=seconds)
        return response

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer as a WSGI application (PEP 3333)."""
        from nucleon import wsgi

        request = wsgi.request_from(environ)
        return wsgi.send(self.respond(request), start_response, request.method)

    def __repr__(self) -> str:
        return f"<App {self.name}: {len(self._registered)} routes, {', '.join(self.resources) or 'no resources'}>"

    def _changed(self) -> None:
        self._compiled = None
        self._front.use(None)

    def _now_compiled(self) -> Compiled:
        if self._compiled is None:
            self.check()
        assert self._compiled is not None
        return self._compiled

    def _called(self, function: Callable[..., None]) -> None:
        with self.scope() as scope:
            scope.call(function)

    def _try(self, step: Callable[[], None], name: str) -> None:
        try:
            step()
        except Exception:
            log.exception("stopping %s failed", name)

    def _elsewhere(self, request: Request, found: object) -> Response:
        """Answer what no route matches: OPTIONS, a wrong method (405) or one that nobody knows (501), a mounted application, 404."""
        if isinstance(found, WrongMethod):
            if request.method == "OPTIONS":
                return Response(b"", 204, [("Allow", ", ".join(found.allow))])
            if not is_known(request.method) and all(route.method != request.method for route in self.routes()):
                return problem_response(unknown_method(request.method), request)
            return problem_response(wrong_method(found.allow), request)
        if request.path == "*" and request.method == "OPTIONS":  # it asks the server as a whole (RFC 9110 9.3.7)
            return Response(b"", 204)
        for prefix, wsgi_app in self._mounts:
            if request.path == prefix or request.path.startswith(prefix + "/"):
                from nucleon import wsgi

                request.route = prefix + "/*"
                environ = wsgi.environ_from(request)
                environ["SCRIPT_NAME"], environ["PATH_INFO"] = prefix, environ["PATH_INFO"][len(prefix) :]
                return wsgi.run(wsgi_app, environ)
        raise NotFound(f"nothing is at {request.path}")

    def _surrounded(self, request: Request, at: int) -> Response:
        """Dispatch inside the hooks from the `at`th on; what a hook raises becomes a problem response too."""
        if at == len(self._around):
            return self._front.dispatch(request)
        hook = self._around[at](request)
        try:
            next(hook)
        except StopIteration:
            return response_from(RuntimeError(f"{place_of(self._around[at])} did not yield"), request)
        except Exception as error:  # noqa: BLE001  every error leaves as a problem, and is logged
            return response_from(error, request)
        try:
            response = self._surrounded(request, at + 1)
        except BaseException:
            hook.close()
            raise
        try:
            hook.send(response)
        except StopIteration as stop:
            return stop.value if isinstance(stop.value, Response) else response
        except Exception as error:  # noqa: BLE001  every error leaves as a problem, and is logged
            response.close()
            return response_from(error, request)
        hook.close()
        response.close()
        return response_from(RuntimeError(f"{place_of(self._around[at])} yielded twice"), request)
