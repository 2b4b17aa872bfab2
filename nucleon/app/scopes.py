"""What a principal may do: the scopes that a route asks for."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from nucleon.errors import Forbidden


def admitting(needed: Sequence[str]) -> Callable[[Any], None] | None:
    """Return the function that refuses a principal without the needed scopes; None when none is needed."""
    names = tuple(needed)
    if not names:
        return None

    def admit(principal: Any) -> None:
        held: Collection[str] = () if principal is None else principal.scopes
        if isinstance(held, str):  # "in" would find parts of names
            raise TypeError(f"the scopes of a {type(principal).__name__} are a collection of str, not one str")
        missing = [name for name in names if name not in held]
        if missing:
            raise Forbidden(f"this needs the scope {', '.join(missing)}")

    return admit
