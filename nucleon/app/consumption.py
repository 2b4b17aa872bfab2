"""One consumer of an app: what was registered, and its handler compiled as a route's is, with a message in place of a request."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypedDict

from nucleon.binding import Call, Handler, Known, Provider, Study, place_of
from nucleon.errors import SetupError
from nucleon.green import deadline_at
from nucleon.message import Headers, Request

if TYPE_CHECKING:
    from nucleon.amqp import Message

KINDS = ("quorum", "classic")
PLACES = ("body", "header")
"""What a message carries that a handler may take."""

METHOD = "CONSUME"
"""The method of the request that stands for a message, in logs and hooks."""


@dataclass(frozen=True)
class Consumption:
    """How a queue is consumed.

    exchange, keys: what the queue is bound to; nothing is bound without an exchange. kind: "quorum" (kept on disk by a majority of nodes,
    counts how often a message was lost with its worker) or "classic". concurrency: messages handled at once in each worker.
    prefetch: messages that a worker holds. retries: how often a failed message is tried again; retry_seconds: the first pause,
    each next is four times as long, up to an hour. dead_letter: the queue for messages that are given up, None: they are dropped and
    logged. deadline: seconds for one try, None: none. broker: the name of the resource, None: the only one.
    """

    queue: str
    handler: Handler
    exchange: str | None = None
    keys: tuple[str, ...] = ()
    kind: str = "quorum"
    concurrency: int = 1
    prefetch: int = 10
    retries: int = 5
    retry_seconds: float = 1.0
    dead_letter: str | None = None
    deadline: float | None = 30.0
    broker: str | None = None

    def __post_init__(self) -> None:
        where = f"{place_of(self.handler.function)}: @app.consume({self.queue!r})"
        if not self.queue:
            raise SetupError(f"{where}: the queue needs a name")
        if self.kind not in KINDS:
            raise SetupError(f"{where}: kind= is quorum or classic, not {self.kind!r}")
        if self.concurrency < 1 or self.prefetch < self.concurrency:
            raise SetupError(f"{where}: concurrency={self.concurrency} is at least 1, and prefetch={self.prefetch} at least as many")
        if self.retries < 0 or self.retry_seconds <= 0:
            raise SetupError(f"{where}: retries= is a number from 0 on, retry_seconds= is above 0")
        if self.deadline is not None and self.deadline <= 0:
            raise SetupError(f"{where}: deadline= is a number of seconds above 0, or None")
        if self.keys and self.exchange is None:
            raise SetupError(f"{where}: key= says what to take of an exchange; name it with exchange=")

    def pause_seconds(self, failures: int) -> float:
        """Return how long a message waits that has failed so often (1: for the first time)."""
        return float(min(self.retry_seconds * 4 ** (failures - 1), 3600.0))


class ConsumeOptions(TypedDict, total=False):
    """What `@app.consume` takes beside the queue: see `Consumption`."""

    exchange: str | None
    key: str | Sequence[str]
    kind: str
    concurrency: int
    prefetch: int
    retries: int
    retry_seconds: float
    dead_letter: str | bool
    deadline: float | None
    broker: str | None


@dataclass(frozen=True)
class ConsumerFact:
    """A consumer as the command line sees it."""

    queue: str
    source: str
    handler: str
    file: str
    line: int


@dataclass(frozen=True)
class Compiled:
    """A consumer that is ready to run: `handle` takes a message and raises what went wrong."""

    consumption: Consumption
    resource: Any
    handle: Callable[["Message", Request], None]


def consumption_from(queue: str, handler: Handler, options: Mapping[str, Any]) -> Consumption:
    """Return the consumption that `@app.consume` describes. Raises `SetupError`, and TypeError for an option that does not exist."""
    unknown = sorted(set(options) - set(ConsumeOptions.__annotations__))
    if unknown:
        known = ", ".join(sorted(ConsumeOptions.__annotations__))
        raise TypeError(f"@app.consume({queue!r}): there is no option {', '.join(unknown)}; there are {known}")
    given = dict(options)
    keys = given.pop("key", ())
    given["keys"] = (keys,) if isinstance(keys, str) else tuple(keys)
    dead_letter = given.get("dead_letter", True)
    given["dead_letter"] = f"{queue}.dead" if dead_letter is True else (dead_letter or None)
    given.setdefault("prefetch", max(10, 2 * given.get("concurrency", 1)))
    return Consumption(queue, handler, **given)


def compiled_from(one: Consumption, known: Known, resources: Mapping[str, Any]) -> Compiled:
    """Compile a consumer. Raises `SetupError`."""
    from nucleon.amqp import Message

    where = place_of(one.handler.function)
    message = Provider(Handler(_message_of), Message, False)
    plan = Study(one.handler, ("POST",), (), Known(known.constants, {**known.providers, Message: message})).finished()
    wrong = [parameter for parameter in plan.parameters if parameter.place not in PLACES]
    if wrong:
        raise SetupError(
            f"{where}: a message has a body and headers, but no {wrong[0].place}: parameter {wrong[0].name} is neither a record, "
            "bytes, Header[...], Message, a resource nor provided"
        )
    resource = _broker_of(one, resources, where)

    def handle(message: "Message", request: Request) -> None:
        call = Call(request, None)
        try:
            plan.run(call)
        except BaseException as error:
            if call.cleanups:
                call.finish(error)
            raise
        if call.cleanups:
            call.finish(None)

    return Compiled(one, resource, handle)


def fact_of(one: Consumption) -> ConsumerFact:
    """Return the facts of a consumer for the command line."""
    function = one.handler.function
    code = getattr(inspect.unwrap(function), "__code__", None)
    file, line = (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)
    source = f"{one.queue} < {one.exchange} {' '.join(one.keys)}".rstrip() if one.exchange is not None else one.queue
    return ConsumerFact(one.queue, source, f"{function.__module__}.{function.__qualname__}", file, line)


def request_from(message: "Message", queue: str) -> Request:
    """Return the request that stands for a message: its body, its headers as text, and its id or the one it was sent with."""
    properties = message.properties
    fields = {name.lower(): str(value) for name, value in message.headers.items() if isinstance(value, str | int)}
    fields.setdefault("content-type", properties.content_type or "application/json")
    if properties.message_id:
        fields.setdefault("x-request-id", properties.message_id)
    fields["content-length"] = str(len(message.body))
    request = Request(METHOD, f"/{queue}", "", Headers(fields), BytesIO(message.body), deadline_at=deadline_at.get())
    request.route = queue
    request.state["message"] = message
    return request


def _message_of(request: Request) -> Any:
    return request.state["message"]


def _broker_of(one: Consumption, resources: Mapping[str, Any], where: str) -> Any:
    brokers = {name: resource for name, resource in resources.items() if getattr(resource, "kind", "") == "amqp"}
    if one.broker is not None:
        if one.broker not in brokers:
            raise SetupError(f"{where}: broker={one.broker!r} is none of {', '.join(brokers) or 'no brokers'}: app.use(Amqp(), name=...)")
        return brokers[one.broker]
    if len(brokers) != 1:
        what = f"there are {len(brokers)}: say broker=" if brokers else "there is none: broker = app.use(Amqp())"
        raise SetupError(f"{where}: @app.consume({one.queue!r}) needs a broker, and {what}")
    return next(iter(brokers.values()))
