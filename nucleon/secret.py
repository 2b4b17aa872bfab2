"""A value that must not be seen: its repr and str show nothing."""

import hmac
from typing import Generic, TypeVar

T = TypeVar("T")


class Secret(Generic[T]):
    """Hold a value that never appears in a log, a repr or a page; `reveal()` gives it to the one who needs it."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """Return the value itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(repr(self._value).encode(), repr(other._value).encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled: pickles end in files and logs")
