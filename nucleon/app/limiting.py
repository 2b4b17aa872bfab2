"""`limits=` with rates: RateLimit fields and the 429 problem.

Fields and problem type are those of draft-ietf-httpapi-ratelimit-headers-10 (work in progress): RateLimit-Policy says what is allowed,
RateLimit what is left.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from nucleon.app.inside import Step, Visit, identity_of
from nucleon.errors import Problem, SetupError, TooManyRequests
from nucleon.message import Request, Response

STATE = "nucleon.rates"  # of a request: what its rates said


class Verdict(Protocol):
    """What a rate says."""

    @property
    def allowed(self) -> bool: ...
    @property
    def remaining(self) -> int: ...
    @property
    def reset_seconds(self) -> float: ...
    @property
    def retry_after_seconds(self) -> float: ...


class Rate(Protocol):
    """A rate such as `nucleon.redis.Rate`. by: "client", "user", "all", or a function of the request."""

    name: str
    limit: int
    per_seconds: float
    by: Any
    each_route: bool

    def take(self, key: object, cost: int = 1) -> Verdict: ...


class QuotaExceeded(TooManyRequests):
    """Too many requests; `violated-policies` names the rates that refused."""

    type = "https://iana.org/assignments/http-problem-types#quota-exceeded"
    title = "Request cannot be satisfied as assigned quota has been exceeded"

    def __init__(self, policy: str, detail: str, retry_after_seconds: float) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, math.ceil(retry_after_seconds)))})
        self.policy = policy

    def document(self, *, instance: str | None = None, request_id: str | None = None) -> dict[str, Any]:
        """Return the problem details object; its member has a dash, as the draft names it."""
        return {**super().document(instance=instance, request_id=request_id), "violated-policies": [self.policy]}


def limited(answer: Callable[[Request], Response], rates: Sequence[Rate], route: str) -> Callable[[Request], Response]:
    """Return a route's answer behind its rates: those that need no user are asked first, and every answer says what is left."""
    early = [rate for rate in rates if rate.by != "user"]
    policy = ", ".join(f'"{rate.name}";q={rate.limit};w={math.ceil(rate.per_seconds)}' for rate in rates)

    def answer_limited(request: Request) -> Response:
        said: list[str] = []
        request.state[STATE] = said
        try:
            for rate in early:
                key = _key_of(rate, request)
                if key is not None:
                    _ask(rate, key, route, said)
            response = answer(request)
        except Problem as problem:
            problem.headers = {**problem.headers, "RateLimit-Policy": policy}
            if said:
                problem.headers["RateLimit"] = ", ".join(said)
            raise
        response.headers = [*response.headers, ("RateLimit-Policy", policy)]
        if said:
            response.headers.append(("RateLimit", ", ".join(said)))
        return response

    return answer_limited


def limiting_users(rates: Sequence[Rate], route: str, has_auth: bool) -> Step | None:
    """Return the step that asks the rates by user, after auth. Raises `SetupError` when the route has no auth."""
    late = [rate for rate in rates if rate.by == "user"]
    if not late:
        return None
    if not has_auth:
        raise SetupError(f'the rate {late[0].name} counts by="user", and this route has no auth= that says who asks')

    def ask(visit: Visit, proceed: Callable[[], Response]) -> Response:
        for rate in late:
            _ask(rate, identity_of(visit), route, visit.request.state[STATE])
        return proceed()

    return ask


def _key_of(rate: Rate, request: Request) -> object:
    if rate.by == "client":
        return request.client
    return "" if rate.by == "all" else rate.by(request)


def _ask(rate: Rate, key: object, route: str, said: list[str]) -> None:
    verdict = rate.take(f"{route} {key}" if rate.each_route else key)
    said.append(f'"{rate.name}";r={verdict.remaining};t={math.ceil(verdict.reset_seconds)}')
    if not verdict.allowed:
        raise QuotaExceeded(rate.name, f"more than {rate.limit} in {rate.per_seconds:g} s", verdict.retry_after_seconds)
