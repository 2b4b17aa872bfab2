"""How many queries a request of a test may make."""

from collections.abc import Iterable
from contextvars import ContextVar, Token

from nucleon.hooks import query_ended

_budget: "ContextVar[Budget | None]" = ContextVar("nucleon_testing_budget", default=None)


class Budget:
    """Notes the statements of a request, in whatever greenlets it runs them, and fails when there are more than `maximum`.

    resources: the names of the databases that count. what: the request, for the message.
    """

    def __init__(self, maximum: int, resources: Iterable[str], what: str) -> None:
        self._maximum, self._resources, self._what = maximum, frozenset(resources), what
        self._made: list[tuple[str, str]] = []
        self._token: Token[Budget | None] | None = None

    def __enter__(self) -> "Budget":
        if _note not in query_ended.listeners:
            query_ended.add(_note)
        self._token = _budget.set(self)
        return self

    def __exit__(self, *_failure: object) -> None:
        assert self._token is not None
        _budget.reset(self._token)

    def check(self) -> None:
        """Raise `AssertionError` with the statements when there were too many."""
        if len(self._made) > self._maximum:
            from nucleon.postgres.repeats import shown

            lines = [f"  {number}. {shown(statement)}   ({place})" for number, (statement, place) in enumerate(self._made, 1)]
            made = f"{len(self._made)} queries" if len(self._made) > 1 else "1 query"
            raise AssertionError("\n".join([f"{self._what} made {made}, at most {self._maximum} were allowed:", *lines]))

    def note(self, resource: str, statement: str) -> None:
        """Take down a statement, unless the client sent it by itself."""
        from nucleon.postgres.repeats import caller, is_ours

        if resource in self._resources and not is_ours(statement):
            self._made.append((statement, caller()))


def _note(*, resource: str, statement: str, seconds: float, error: BaseException | None) -> None:
    budget = _budget.get()
    if budget is not None:
        budget.note(resource, statement)
