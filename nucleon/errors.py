"""What goes wrong, as values: `NucleonError`, and `Problem` for everything a client may be told (RFC 9457)."""

import re
from http import HTTPStatus
from inspect import get_annotations
from typing import Any, ClassVar


class NucleonError(Exception):
    """The root of every error that nucleon raises."""


class SetupError(NucleonError):
    """The program is wrong, not the request: raised at start-up and says what to change, where."""


class Problem(NucleonError):
    """An error that leaves the service as `application/problem+json` (RFC 9457).

    A subclass with annotations is a problem type of its own; the annotated names are extension members and
    keyword arguments: `class OutOfStock(Conflict): sku: str` is raised as `OutOfStock("none left", sku="A-1")`.

    detail: what happened this time, for the client's developer; it must not carry secrets.
    headers: response header fields to send along, such as `{"Retry-After": "1"}`.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "about:blank"
    title: ClassVar[str] = "Internal Server Error"
    members: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = tuple(name for name, kind in get_annotations(cls).items() if "ClassVar" not in str(kind))
        taken = sorted({"type", "title", "status", "detail", "instance", "request_id", "headers"} & set(own))
        if taken:
            raise TypeError(f"{cls.__name__}: members {taken} are taken by RFC 9457; choose other names")
        cls.members = (*cls.members, *own)
        if own and "type" not in cls.__dict__:
            cls.type = "urn:problem-type:" + _dashed(cls.__name__)
        if own and "title" not in cls.__dict__:
            cls.title = _dashed(cls.__name__).replace("-", " ").capitalize()
        elif "status" in cls.__dict__ and "title" not in cls.__dict__:
            cls.title = HTTPStatus(cls.status).phrase

    def __init__(self, detail: str | None = None, *, headers: dict[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail or self.title)
        unknown = sorted(set(members) - set(self.members) - {"errors"})
        missing = sorted(set(self.members) - set(members))
        if unknown or missing:
            raise TypeError(f"{type(self).__name__}: unknown members {unknown}, missing members {missing}")
        self.detail = detail
        self.headers = headers or {}
        self.extensions = members
        for name, value in members.items():
            setattr(self, name, value)

    def document(self, *, instance: str | None = None, request_id: str | None = None) -> dict[str, Any]:
        """Return the problem details object (RFC 9457 section 3), ready to be encoded as JSON."""
        document: dict[str, Any] = {"type": self.type, "title": self.title, "status": self.status}
        for name, value in (("detail", self.detail), ("instance", instance), ("request_id", request_id)):
            if value is not None:
                document[name] = value
        return {**document, **self.extensions}


def _dashed(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


class BadRequest(Problem):
    status = 400


class Unauthorized(Problem):
    """Who asks is not known. `WWW-Authenticate` names how to say it, as RFC 9110 11.6.1 demands: the scheme in `challenge`.

    challenge: of a subclass, or `headers={"WWW-Authenticate": ...}` of one error, for another scheme than Bearer (RFC 6750).
    """

    status = 401
    challenge: ClassVar[str] = "Bearer"

    def __init__(self, detail: str | None = None, *, headers: dict[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail, headers=headers, **members)
        if not any(name.lower() == "www-authenticate" for name in self.headers):
            self.headers = {"WWW-Authenticate": self.challenge, **self.headers}


class Forbidden(Problem):
    status = 403


class NotFound(Problem):
    status = 404


class MethodNotAllowed(Problem):
    status = 405


class NotAcceptable(Problem):
    status = 406


class Conflict(Problem):
    status = 409


class PreconditionFailed(Problem):
    status = 412


class ContentTooLarge(Problem):
    status = 413
    title = "Content Too Large"


class UnsupportedMediaType(Problem):
    status = 415


class Invalid(Problem):
    """The input is well-formed but wrong; `errors` lists every fault: `[{"location", "pointer", "message"}]`."""

    status = 422
    title = "Unprocessable Content"


class TooManyRequests(Problem):
    status = 429


class Unavailable(Problem):
    """Something that the answer needs is away or full just now; `Retry-After` says when to come back (seconds)."""

    status = 503

    def __init__(
        self, detail: str | None = None, *, retry_after_seconds: int = 1, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds), **(headers or {})}, **members)


class DeadlineExceeded(Problem):
    """The time that the request was given is over."""

    status = 504
