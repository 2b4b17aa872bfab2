"""A message whose handler failed: tried again later, or given up with its story in the headers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from nucleon import hooks
from nucleon.errors import BadRequest, Invalid, Problem, UnsupportedMediaType

if TYPE_CHECKING:
    from nucleon.amqp import Message, Queue
    from nucleon.app.consumption import Compiled, Consumption

ATTEMPTS = "x-nucleon-attempts"
REASON = "x-nucleon-reason"
TRIES = "x-nucleon-tries"

class Lost(Problem):
    """A message whose workers died under it again and again."""

    title = "Lost with its workers"


HOPELESS = (Lost, Invalid, BadRequest, UnsupportedMediaType)
"""The message itself is wrong: trying again changes nothing."""

LOSSES = 10
"""How many times more than `retries` a quorum queue may lose a message with its worker; stops of workers count there too."""

REASON_LIMIT = 1000
OWN_HEADERS = ("x-death", "x-first-death-queue", "x-first-death-reason", "x-first-death-exchange", "x-delivery-count")
"""What RabbitMQ writes itself."""


def is_hopeless(error: Exception) -> bool:
    """Tell whether the message can never be handled."""
    return isinstance(error, HOPELESS)


def reason_of(error: Exception) -> str:
    """Return a failure in one line for the log and the dead letter's header, without what must not be seen."""
    if isinstance(error, Problem):
        faults = [f"{one['pointer'] or '/'}: {one['message']}" for one in error.extensions.get("errors", ())]
        return f"{error.title}: {'; '.join([str(error), *faults])}"[:REASON_LIMIT]
    return type(error).__name__


def refuse_what_was_lost_too_often(one: "Consumption", message: "Message") -> None:
    """Raise `Lost` for a message under which workers died again and again: it is not even tried."""
    count = message.headers.get("x-delivery-count", 0)
    if isinstance(count, int) and count > one.retries + LOSSES:
        raise Lost(f"delivered {count} times without an end: its workers died or were stopped")


def failures_of(message: "Message") -> int:
    """Return how often a handler has failed with the message so far."""
    count = message.headers.get(ATTEMPTS, 0)
    return max(count, 0) if isinstance(count, int) else 0  # a header is anybody's


@dataclass(frozen=True)
class Queues:
    """The queues of a consumer. retries: where a message waits that has failed once, twice, ...; dead: for those given up."""

    work: "Queue"
    retries: tuple["Queue", ...]
    dead: "Queue | None"

    def declare(self) -> None:
        """Make them all, now: a queue that is made when it is needed may be lost with a broker that is killed right then."""
        for queue in (*([self.dead] if self.dead is not None else []), *dict.fromkeys(self.retries), self.work):
            queue.declare()


def queues_of(compiled: "Compiled") -> Queues:
    """Return the queues of a consumer with what they are bound to, not declared yet.

    From a quorum queue RabbitMQ moves a message whose time is over with a confirm (at-least-once dead-lettering, 3.10); from a classic one
    a crash of the broker in that moment loses it.
    """
    one, broker = compiled.consumption, compiled.resource
    work: Queue = broker.queue(one.queue, kind=one.kind, prefetch=one.prefetch)
    if one.exchange is not None:
        exchange = broker.exchange(one.exchange)
        for key in one.keys or ("#",):
            work.bind(exchange, key)
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": one.queue}
    if one.kind == "quorum":
        back |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    pauses = [one.pause_seconds(failures) for failures in range(1, one.retries + 1)]
    waiting = {
        pause: broker.queue(f"{one.queue}.retry.{pause:g}", kind=one.kind, message_ttl=pause, arguments=back) for pause in set(pauses)
    }
    dead = None if one.dead_letter is None else broker.queue(one.dead_letter, kind=one.kind)
    return Queues(work, tuple(waiting[pause] for pause in pauses), dead)


def put_off(retry: "Queue", message: "Message", failures: int) -> None:
    """Put the message where it waits for its next try; returns when the broker has it. Raises `AmqpError`."""
    headers = {**_origin_of(message), **_headers_of(message), ATTEMPTS: failures}
    retry.put(message.body, headers=headers, **_properties_of(message))


def give_up(one: "Consumption", dead: "Queue | None", message: "Message", reason: str) -> None:
    """Put the message into the dead-letter queue with its story; returns when the broker has it. Raises `AmqpError`.

    Moved back into its queue, it starts anew: the count of tries goes under another name.
    """
    if dead is None:
        return
    headers = {
        **_origin_of(message),
        **_headers_of(message),
        REASON: reason,
        TRIES: failures_of(message) + 1,
        "x-nucleon-queue": one.queue,
        "x-nucleon-time": datetime.now(UTC).replace(microsecond=0),
        "x-request-id": hooks.request_id.get() or "",
    }
    headers.pop(ATTEMPTS, None)
    dead.put(message.body, headers=headers, **_properties_of(message))


def _origin_of(message: "Message") -> dict[str, Any]:
    """Return where the message was published to first; put off, it comes by way of the default exchange."""
    return {"x-nucleon-exchange": message.exchange, "x-nucleon-routing-key": message.routing_key}


def _headers_of(message: "Message") -> dict[str, Any]:
    return {name: value for name, value in message.headers.items() if name not in OWN_HEADERS}


def _properties_of(message: "Message") -> dict[str, Any]:
    """Return what the publisher said, but for a time to live (it is over) and a user (we are another)."""
    said = msgspec.structs.asdict(message.properties)
    return {name: value for name, value in said.items() if value is not None and name not in ("headers", "expiration", "user_id")}
