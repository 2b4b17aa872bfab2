"""Every error that leaves: `application/problem+json` (RFC 9457) with the request id; the log has the cause."""

import logging
from http import HTTPMethod
from typing import Any

import msgspec

from nucleon.errors import MethodNotAllowed, Problem
from nucleon.message import Request, Response

log = logging.getLogger("nucleon.app")


def problem_response(problem: Problem, request: Request) -> Response:
    """Return the response that tells a problem."""
    document = problem.document(instance=request.path, request_id=request.id)
    headers = [("Content-Type", "application/problem+json"), ("X-Request-Id", request.id), *problem.headers.items()]
    return Response(msgspec.json.encode(document, enc_hook=_shown), problem.status, headers)


def response_from(error: Exception, request: Request) -> Response:
    """Return the response for whatever was raised; it is logged, and only a `Problem` shows its text.

    The log says where it was raised when the fault is the program's (500), and not when a server is away (503, 504).
    Of a client's fault the log names the cause's type alone: a driver's message quotes the client's values.
    """
    if not isinstance(error, Problem):
        log.error("%s %s failed [request %s]", request.method, request.path, request.id, exc_info=error)
        return problem_response(Problem(), request)
    if error.status >= 500:
        cause = error.__cause__ or error.__context__
        is_ours = error.status == 500
        log.log(
            logging.ERROR if is_ours else logging.WARNING,
            "%s %s answered %d [request %s]: %s (cause: %s)",
            request.method, request.path, error.status, request.id, error, _cause_shown(cause), exc_info=error if is_ours else None,
        )  # fmt: skip
    elif log.isEnabledFor(logging.INFO):
        cause = error.__cause__
        because = "" if cause is None else f" (cause: {type(cause).__name__})"
        log.info("%s %s answered %d [request %s]: %s%s", request.method, request.path, error.status, request.id, error, because)
    return problem_response(error, request)


class UnknownMethod(Problem):
    """No route of this service knows the method (RFC 9110 9.1)."""

    status = 501


def unknown_method(method: str) -> UnknownMethod:
    """Return the 501 problem for a method that is neither HTTP's nor of any route."""
    return UnknownMethod(f"this service does not know the method {method}")


def is_known(method: str) -> bool:
    """Tell whether HTTP has such a method (RFC 9110 9.3, RFC 5789)."""
    return method in HTTPMethod.__members__


def wrong_method(allow: tuple[str, ...]) -> MethodNotAllowed:
    """Return the 405 problem with its Allow field."""
    return MethodNotAllowed(f"this path takes {', '.join(allow)}", headers={"Allow": ", ".join(allow)})


def _cause_shown(cause: BaseException | None) -> str:
    return "none" if cause is None else f"{type(cause).__name__}: {str(cause).strip()}"


def _shown(value: Any) -> str:
    return str(value)
