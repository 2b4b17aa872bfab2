"""A compiled route at work: arguments, handler, answer, and everything given back before the first byte."""

import logging
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from nucleon.app.inside import Step, Visit
from nucleon.app.transacting import Begin
from nucleon.binding import Answer
from nucleon.binding.call import Call
from nucleon.binding.filling import Plan
from nucleon.errors import BadRequest
from nucleon.green import check, deadline, deadline_at
from nucleon.message.request import Request
from nucleon.message.response import Response

log = logging.getLogger("nucleon.app")


def endpoint_from(
    plan: Plan,
    answer: Answer,
    acceptable: Callable[[Call], None] | None,
    limit_bytes: int | None,
    deadline_seconds: float | None,
    *,
    inside: Step | None = None,
    begin: Begin | None = None,
) -> Callable[[Request], Response]:
    """Return the function from a request to the response of one route.

    inside: what stands between its auth and its handler. begin: opens its transaction.
    """
    run = plan.run

    def respond(request: Request) -> Response:
        call = Call.__new__(Call)
        call.begin(request, limit_bytes)
        try:
            if acceptable is not None and "accept" in request.fields:
                acceptable(call)
            if begin is not None:
                begin(call)
            response = answer(run(call), call) if inside is None else _inside(plan, answer, inside, call)
        except BaseException as error:
            if call.cleanups:
                call.finish(error)
            raise
        if isinstance(response.body, bytes):
            if call.cleanups:
                call.finish(None)
        else:
            response.body = Stream(iter(response.body), call, None if deadline_seconds is None else deadline_at.get())
        return response

    if deadline_seconds is None:
        return respond
    seconds: float = deadline_seconds

    def respond_in_time(request: Request) -> Response:
        before = deadline_at.get()
        at = monotonic() + seconds
        token = deadline_at.set(at if before is None else min(at, before))
        try:
            return respond(request)
        finally:
            deadline_at.reset(token)

    return respond_in_time


def _inside(plan: Plan, answer: Answer, inside: Step, call: Call) -> Response:
    values = None if plan.guard_slot is None else plan.guarded(call)
    user = None if values is None or plan.guard_slot is None else values[plan.guard_slot]
    visit = Visit.__new__(Visit)
    visit.begin(call.request, user, call.limit_bytes)
    passage = Passage.__new__(Passage)
    passage.begin(plan, answer, call, values)
    return inside(visit, passage)


class Passage:
    """The way on to the handler, for what stands before it. values: what auth has given already."""

    __slots__ = ("_answer", "_call", "_plan", "_values")

    def begin(self, plan: Plan, answer: Answer, call: Call, values: list[Any] | None) -> None:
        """Set where the way leads; it is made without `__init__`, which would cost three times as much."""
        self._plan = plan
        self._answer = answer
        self._call = call
        self._values = values

    def __call__(self) -> Response:
        plan, call = self._plan, self._call
        response = self._answer(plan.run(call) if self._values is None else plan.completed(call, self._values), call)
        if call.cleanups and isinstance(response.body, bytes):
            call.finish(None)  # committed before anybody keeps the answer
        return response


def answer_in(text: str, answer: Callable[[Request], Response], request: Request) -> Response:
    """Answer within the seconds that the client's Request-Timeout names; an earlier deadline stays in force."""
    if not text.isdecimal() or not text.isascii() or len(text) > 9:
        raise BadRequest("Request-Timeout is a whole number of seconds")
    with deadline(int(text)):
        check()
        return answer(request)


class Stream:
    """A streamed body that gives back what its handler borrowed when it is closed.

    A stream may last: while it is read only a deadline that its own route gave is in force.
    """

    __slots__ = ("_at", "_call", "_chunks", "_is_read")

    def __init__(self, chunks: Iterator[bytes], call: Call, at: float | None) -> None:
        self._chunks = chunks
        self._call = call
        self._at = at
        self._is_read = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = deadline_at.set(self._at)
        try:
            return next(self._chunks)
        except StopIteration:
            self._is_read = True
            raise
        except Exception as error:
            self._call.error = error
            log.exception("%s %s broke off [request %s]", self._call.request.method, self._call.request.path, self._call.request.id)
            raise
        finally:
            self._at = deadline_at.get()  # the handler may have opened a deadline of its own around its yields
            deadline_at.reset(token)

    def close(self) -> None:
        """Close the handler's generator, then run the clean-ups of its providers."""
        try:
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()
        finally:
            self._call.is_cut_off = not self._is_read
            self._call.finish(self._call.error)
