"""Statements that one request runs again and again (N+1): counted always, told with their place in development.

Values travel as parameters, so the text of a statement is its shape: counting texts is enough. A request is known by what
`hooks.request_id` holds; work outside a request (a batch, a start hook) may repeat itself as it likes.
"""

import logging
import os
import sys
from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path

from nucleon.hooks import query_ended, request_ended, request_id, statement_repeated

log = logging.getLogger("nucleon.postgres")

HOUSE = f"{Path(__file__).parents[1]}{os.sep}"
OURS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "DISCARD", "FETCH", "CLOSE")
"""How the statements begin that the client sends by itself."""
SHOWN_CHARACTERS = 300
STATEMENTS_KEPT = 200


def is_ours(statement: str) -> bool:
    """Tell whether the client sends a statement by itself: the ends of transactions, batches of a cursor."""
    return statement.startswith(OURS) or statement == "select"


def caller() -> str:
    """Return file and line of the code outside nucleon that led here."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((HOUSE, "<")):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def shown(statement: str) -> str:
    """Return a statement in one line of bounded length."""
    line = " ".join(statement.split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]} ..."


class _Request:
    """What one request has run so far. places: in development, where each statement was called from."""

    __slots__ = ("carrier", "counts", "is_over", "places")

    def __init__(self, carrier: object) -> None:
        self.carrier = carrier
        self.counts: dict[str, int] = {}
        self.places: dict[str, Counter[str]] = {}
        self.is_over = False


_watching: "list[Repeats]" = []


def counted() -> Counter[str]:
    """Return how many requests of this process repeated a statement, by statement."""
    return sum((one.counted for one in _watching), Counter())


class Repeats:
    """Watches the databases in `limits` (resource name to the count from which a repetition is told) until `stop`.

    counted: how many requests repeated a statement, by statement, for the statements first met.
    """

    def __init__(self, limits: Mapping[str, int], *, with_places: bool) -> None:
        self.counted: Counter[str] = Counter()
        self._limits = dict(limits)
        self._with_places = with_places
        self._current: ContextVar[_Request | None] = ContextVar("nucleon_statements_of_request", default=None)
        _watching.append(self)
        self._on_query, self._on_request = self._query_ended, self._request_ended  # bound once: hooks compare by identity
        query_ended.add(self._on_query)
        if with_places:
            request_ended.add(self._on_request)

    def stop(self) -> None:
        """Watch no more."""
        _watching.remove(self)
        query_ended.remove(self._on_query)
        request_ended.remove(self._on_request)

    def _query_ended(self, *, resource: str, statement: str, seconds: float, error: BaseException | None) -> None:
        carrier = request_id.carrier()
        if carrier is None or resource not in self._limits:
            return
        request = self._current.get()
        if request is None or request.carrier is not carrier:
            request = _Request(carrier)
            self._current.set(request)
        counts = request.counts
        counts[statement] = count = counts.get(statement, 0) + 1
        if self._with_places:
            request.places.setdefault(statement, Counter())[caller()] += 1
        if count == self._limits[resource] and not is_ours(statement):
            self._repeated(resource, statement, count, request)

    def _repeated(self, resource: str, statement: str, count: int, request: _Request) -> None:
        if statement in self.counted or len(self.counted) < STATEMENTS_KEPT:
            self.counted[statement] += 1
        for listener in statement_repeated.listeners:
            listener(resource=resource, statement=statement, count=count)
        if self._with_places and request.is_over:  # a stream that is still being sent: nobody will tell its end
            log.warning("%s", _told("after its answer began, a request ran", count, request.places[statement], statement))

    def _request_ended(self, *, method: str, route: str, status: int, seconds: float) -> None:
        request = self._current.get()
        if request is None or request.carrier is not request_id.carrier():
            return
        request.is_over = True
        least = min(self._limits.values())
        for statement, count in request.counts.items():
            if count >= least and not is_ours(statement):
                log.warning("%s", _told(f"{method} {route} ran", count, request.places[statement], statement))


def _told(who: str, count: int, places: Counter[str], statement: str) -> str:
    ((place, at_place), *others) = places.most_common()
    where = f"at {place}" if not others else f"{at_place} of them at {place}"
    return f"{who} one statement {count} times, {where}: {shown(statement)} (one for all: `where id = any(%s)`, a join, or many())"
