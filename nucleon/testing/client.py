"""An application called in the test's own process: no socket, no server, the same answers."""

from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from io import BytesIO
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote

from nucleon.green import deadline_at
from nucleon.message import Headers, Request, Response
from nucleon.testing.answer import Answer
from nucleon.testing.budget import Budget
from nucleon.testing.calls import Calls

if TYPE_CHECKING:
    from nucleon.testing.broker import FakeBroker

__all__ = ["Answer", "Client"]

_END = object()


class Application(Protocol):
    """What a client calls: `nucleon.App` is one."""

    def respond(self, request: Request, /) -> Response: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Client(Calls):
    """Call `application` as the server would, each request in a context of its own with a deadline.

    As a context manager it starts the application (hooks, resources) and stops it:

        with Client(app) as client:
            assert client.get("/items/1").json() == {"id": 1}

    headers: sent with every request. deadline_seconds: as the server's setting. broker: the one that the application publishes to and
    consumes from; `drain` needs it.
    """

    def __init__(
        self,
        application: Application,
        *,
        headers: dict[str, str] | None = None,
        deadline_seconds: float = 30.0,
        broker: "FakeBroker | None" = None,
    ) -> None:
        super().__init__()
        self.application = application
        self.broker = broker
        self.headers = {name.lower(): value for name, value in (headers or {}).items()}
        self.deadline_seconds = deadline_seconds
        self._open: list[Response] = []

    def __enter__(self) -> "Client":
        self.application.start()
        consumers = getattr(self.application, "consumers", None)
        if self.broker is not None and consumers:
            consumers.declare()  # as in a service that runs: what the first request publishes finds its exchange and its queue
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            for response in self._open:
                response.close()
        finally:
            self._open.clear()
            self.application.stop()

    def send_within(self, max_queries: int, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """Carry one request into the application and count the queries that it makes."""
        resources = getattr(self.application, "resources", {})
        databases = [name for name, one in resources.items() if getattr(one, "kind", None) == "postgres"]
        with Budget(max_queries, databases, f"{method} {target}") as budget:
            return self._send(method, target, headers, body, budget.check)

    def drain(self, within_seconds: float = 10.0) -> None:
        """Run the application's consumers until nothing is left to do; messages that wait for another try do not wait.

        Raises `AssertionError` when it is not quiet in time, and without a broker.
        """
        from nucleon.testing.draining import drain

        assert self.broker is not None, "drain needs the broker: Client(app, broker=FakeBroker()), or the fixture `client`"
        drain(self.application, self.broker, within_seconds)

    def send(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """Carry one request into the application."""
        return self._send(method, target, headers, body, _nothing)

    def _send(self, method: str, target: str, headers: dict[str, str], body: bytes, afterwards: Callable[[], None]) -> Answer:
        """Carry one request into the application; call `afterwards` when its answer was closed."""
        path, _, query_string = target.partition("?")
        fields = {"host": "testserver", "accept": "*/*", **self.headers, **headers}
        instant = monotonic() + self.deadline_seconds
        request = Request(method, unquote(path), query_string, Headers(fields), BytesIO(body), client="127.0.0.1", deadline_at=instant)
        context = copy_context()
        context.run(deadline_at.set, instant)
        response = context.run(self.application.respond, request)
        self._open.append(response)

        def close() -> None:
            if response in self._open:
                self._open.remove(response)
                context.run(response.close)
                afterwards()

        if method == "HEAD" or isinstance(response.body, bytes):
            content = b"" if method == "HEAD" or not isinstance(response.body, bytes) else response.body
            close()
            return Answer(response.status, response.headers, [content], close)
        return Answer(response.status, response.headers, _in(context, response, close), close)


def _nothing() -> None:
    return None


def _in(context: Context, response: Response, close: Callable[[], None]) -> Iterator[bytes]:
    """Yield a stream's pieces, each made in the context of its request."""
    chunks = response.chunks()
    try:
        while (piece := context.run(next, chunks, _END)) is not _END:
            assert isinstance(piece, bytes)
            yield piece
    finally:
        close()
