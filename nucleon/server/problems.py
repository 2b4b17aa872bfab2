"""What the server itself has to complain about, as problems."""

import msgspec

from nucleon.errors import BadRequest, ContentTooLarge, Problem
from nucleon.http import MalformedInput, reply_head
from nucleon.message.response import Response


class RequestTimeout(Problem):
    """The client was too slow to send what it announced."""

    status = 408


def problem_from(wrong: MalformedInput) -> Problem:
    """Return the problem that tells a client what was malformed."""
    if wrong.status_hint == 413:
        return ContentTooLarge(wrong.what)
    return _PROBLEMS.get(wrong.status_hint, BadRequest)(wrong.what)


def problem_response(problem: Problem, request_id: str) -> Response:
    """Return the problem as `application/problem+json`."""
    document = msgspec.json.encode(problem.document(request_id=request_id))
    headers = [("X-Request-Id", request_id), *problem.headers.items()]
    return Response(document, problem.status, headers, content_type="application/problem+json")


def refusal(problem: Problem, request_id: str, to_head: bool) -> bytes:
    """Return head and body of the answer to what never became a request; the connection ends behind it."""
    response = problem_response(problem, request_id)
    body = response.body if isinstance(response.body, bytes) else b""
    head, framing, _ = reply_head(response.status, response.headers, len(body), keep_alive=False, to_head=to_head)
    return head + body[:framing]


def _problem_type(code: int) -> type[Problem]:
    return type(f"Status{code}", (Problem,), {"status": code})


_PROBLEMS: dict[int, type[Problem]] = {408: RequestTimeout, **{code: _problem_type(code) for code in (414, 417, 421, 431, 501, 505)}}
