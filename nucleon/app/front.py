"""The way of every request into an app: its route found and asked, and whatever goes wrong told as a problem."""

from collections.abc import Callable
from typing import Any

from nucleon import hooks
from nucleon.app.answering import answer_in
from nucleon.app.problems import response_from
from nucleon.message.request import Request
from nucleon.message.response import Response
from nucleon.routing.router import Match, found_in

_request_ended = hooks.request_ended
_set_identity = hooks.request_id.set


class Front:
    """Answers requests by a router's tables; compiled, because every request comes through.

    compiling: makes the app's router when it has none; elsewhere: answers what no route matches; observed: answers with hooks around.
    """

    __slots__ = ("around", "compiling", "elsewhere", "observed", "root", "static")

    def __init__(
        self,
        around: list[Callable[[Request], Any]],
        compiling: Callable[[], Any],
        elsewhere: Callable[[Request, object], Response],
        observed: Callable[[Request], Response],
    ) -> None:
        self.around = around
        self.compiling = compiling
        self.elsewhere = elsewhere
        self.observed = observed
        self.root: Any = None
        self.static: dict[str, dict[str, Match]] = {}

    def use(self, router: Any) -> None:
        """Find routes in this router from now on; None: the app has changed, and makes another one when it is asked."""
        self.root = None if router is None else router.root
        self.static = {} if router is None else router.static

    def respond(self, request: Request) -> Response:
        """Answer a request; whatever goes wrong becomes a problem response."""
        _set_identity(request)
        if self.around or _request_ended.listeners:
            return self.observed(request)
        return self.dispatch(request)

    def dispatch(self, request: Request) -> Response:
        """Answer a request without the hooks around it."""
        try:
            if self.root is None:
                self.use(self.compiling().router)
            found = found_in(self.root, self.static, request.method, request.path)
            if isinstance(found, Match):
                match = found
                endpoint = match.route
                request.params = match.params
                request.route = endpoint.pattern
                hurry = request.fields.get("request-timeout")
                return endpoint.answer(request) if hurry is None else answer_in(hurry, endpoint.answer, request)
            return self.elsewhere(request, found)
        except Exception as error:  # noqa: BLE001  every error leaves as a problem, and is logged
            return response_from(error, request)
