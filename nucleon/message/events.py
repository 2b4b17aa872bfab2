"""Server-sent events (HTML standard, section 9.2): what a handler returns to send them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Events(Protocol[T_co]):
    """The return annotation of a handler that sends events: a generator function of T, or of `Event[T]`."""

    def __iter__(self) -> Iterator[T_co]: ...

    def __next__(self) -> T_co: ...


@dataclass(frozen=True, slots=True)
class Event(Generic[T]):
    """One event with a name, an id (clients send the last one back as Last-Event-ID) or a time to wait before reconnecting."""

    data: T
    name: str | None = None
    id: str | None = None
    retry_ms: int | None = None

    def __post_init__(self) -> None:
        for text in (self.name, self.id):
            if text is not None and any(mark in text for mark in "\r\n\0"):
                raise ValueError(f"the name and id of an event are one line each, not {text!r}")

    def head(self) -> str:
        """Return the field lines before the data."""
        given: tuple[tuple[str, Any], ...] = (("event", self.name), ("id", self.id), ("retry", self.retry_ms))
        return "".join(f"{name}: {value}\n" for name, value in given if value is not None)
