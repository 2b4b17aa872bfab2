"""What stands between a route's auth and its handler: limits of users, kept answers. Each step may answer itself or go on."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, TypeAlias

from nucleon.message.request import Request
from nucleon.message.response import Response


class Visit:
    """One request that auth has let in. user: what auth returned (None without auth). limit_bytes: of its body."""

    __slots__ = ("limit_bytes", "request", "user")

    def __init__(self, request: Request, user: Any, limit_bytes: int | None) -> None:
        self.begin(request, user, limit_bytes)

    def begin(self, request: Request, user: Any, limit_bytes: int | None) -> None:
        """Set what a visit consists of; made without `__init__`, it costs a third."""
        self.request = request
        self.user = user
        self.limit_bytes = limit_bytes


Proceed: TypeAlias = Callable[[], Response]
Step: TypeAlias = Callable[[Visit, Proceed], Response]


def chained(steps: Sequence[Step]) -> Step | None:
    """Return one step that does all, the first outermost; None when there is none."""
    if not steps:
        return None
    first, rest = steps[0], chained(steps[1:])
    if rest is None:
        return first
    inner = rest
    return lambda visit, proceed: first(visit, lambda: inner(visit, proceed))


def identity_of(visit: Visit) -> str:
    """Return who asks: the `id` of what auth returned, or itself when it is a plain value; without that, a digest of the credentials.

    Raises TypeError when auth returned something that has no `id`.
    """
    user = visit.user
    if user is None:
        sent = visit.request.headers.get("authorization", "")
        return blake2b(sent.encode(), digest_size=16).hexdigest() if sent else ""
    found = getattr(user, "id", user)
    if found is user and not isinstance(user, str | int):
        raise TypeError(f"what auth returned, a {type(user).__name__}, has no id: nobody can tell one user from another")
    return str(found)
