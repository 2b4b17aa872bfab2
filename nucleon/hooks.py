"""What happened, in the past tense: low rooms speak, higher rooms listen; nobody here knows who.

A room speaks with `for listener in request_ended.listeners: listener(...)`, which costs next to nothing when nobody
listens. Listeners run in the speaker's greenlet: they must not wait and must not raise.
"""

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Generic, Protocol, TypeVar

L = TypeVar("L")


class Identified(Protocol):
    """Something with an id that is made when somebody asks for it."""

    @property
    def id(self) -> str: ...


class RequestId:
    """A context variable for an id: it takes the id itself, or what has it; making one costs more than most requests need."""

    __slots__ = ("_variable", "carrier", "reset", "set")

    def __init__(self) -> None:
        self._variable: ContextVar[str | Identified | None] = ContextVar("nucleon_request_id", default=None)
        self.carrier: Callable[[], str | Identified | None] = self._variable.get
        """Returns what was set, without making an id: the same object for as long as the request is the same."""
        self.set: Callable[[str | Identified | None], Token[str | Identified | None]] = self._variable.set
        self.reset: Callable[[Token[str | Identified | None]], None] = self._variable.reset

    def get(self) -> str | None:
        """Return the id, or None outside any request."""
        found = self._variable.get()
        return found if found is None or isinstance(found, str) else found.id


request_id = RequestId()
"""The id of the request (or job, or message) that this greenlet works for; log lines carry it."""

reads_only: ContextVar[bool] = ContextVar("nucleon_reads_only", default=False)
"""The work at hand only reads: a resource may ask a replica, which may be a moment behind."""


class Hook(Generic[L]):
    """A moment that listeners subscribe to."""

    __slots__ = ("listeners", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.listeners: tuple[L, ...] = ()

    def add(self, listener: L) -> None:
        """Call `listener` from now on, after those that were added before."""
        self.listeners = (*self.listeners, listener)

    def remove(self, listener: L) -> None:
        """Stop calling `listener`; unknown ones are ignored."""
        self.listeners = tuple(one for one in self.listeners if one is not listener)


class RequestEnded(Protocol):
    def __call__(self, *, method: str, route: str, status: int, seconds: float) -> None: ...


class MessageEnded(Protocol):
    def __call__(self, *, queue: str, redelivered: bool, seconds: float, error: BaseException | None) -> None: ...


class QueryEnded(Protocol):
    def __call__(self, *, resource: str, statement: str, seconds: float, error: BaseException | None) -> None: ...


class StatementRepeated(Protocol):
    def __call__(self, *, resource: str, statement: str, count: int) -> None: ...


class ConnectionOpened(Protocol):
    def __call__(self, *, resource: str, seconds: float) -> None: ...


class ConnectionFailed(Protocol):
    def __call__(self, *, resource: str, error: BaseException) -> None: ...


class ConnectionClosed(Protocol):
    def __call__(self, *, resource: str, reason: str) -> None: ...


class PoolWaited(Protocol):
    def __call__(self, *, resource: str, seconds: float, served: bool) -> None: ...


request_ended: Hook[RequestEnded] = Hook("request_ended")
message_ended: Hook[MessageEnded] = Hook("message_ended")
query_ended: Hook[QueryEnded] = Hook("query_ended")
statement_repeated: Hook[StatementRepeated] = Hook("statement_repeated")
"""One request has run the same statement `count` times, the number at which that is told; spoken once for each request and statement."""
connection_opened: Hook[ConnectionOpened] = Hook("connection_opened")
connection_failed: Hook[ConnectionFailed] = Hook("connection_failed")
connection_closed: Hook[ConnectionClosed] = Hook("connection_closed")
pool_waited: Hook[PoolWaited] = Hook("pool_waited")
