"""A message inside the broker, and what is written on it when it dies (https://www.rabbitmq.com/docs/dlx)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from nucleon.amqp.codec import Properties
from nucleon.testing.broker.refusal import PRECONDITION_FAILED, Refusal

DELIVERY_COUNT = "x-delivery-count"


@dataclass(slots=True, eq=False)
class Message:
    """One message in one queue. position: its place among those of its priority; expires_at: on the broker's clock."""

    exchange: str
    routing_key: str
    properties: Properties
    body: bytes
    position: int = 0
    priority: int = 0
    redelivered: bool = False
    delivery_count: int = 0
    expires_at: float | None = None

    @property
    def order(self) -> tuple[int, int]:
        """What a queue sorts by."""
        return (-self.priority, self.position)

    @property
    def headers(self) -> dict[str, Any]:
        """The headers, empty when there are none."""
        return self.properties.headers or {}

    def copy(self) -> "Message":
        """Return the message as it enters a queue."""
        return Message(self.exchange, self.routing_key, self.properties, self.body)

    def counted(self) -> Properties:
        """Return the properties as a quorum queue delivers them: with the number of earlier deliveries."""
        if not self.delivery_count:
            return self.properties
        return msgspec.structs.replace(self.properties, headers={**self.headers, DELIVERY_COUNT: self.delivery_count})


def ttl_seconds_of(properties: Properties) -> float | None:
    """Return how long a message may wait, by its own expiration property."""
    text = properties.expiration
    if text is None:
        return None
    if not text.isdecimal() or not text.isascii():
        raise Refusal(PRECONDITION_FAILED, f"invalid expiration '{text}': {{no_integer,<<\"{text}\">>}}")
    return int(text) / 1000


def after_death(message: Message, queue: str, reason: str, exchange: str, routing_key: str) -> Message:
    """Return the message that goes to the dead-letter exchange, with `x-death` as RabbitMQ writes it."""
    deaths = [dict(one) for one in message.headers.get("x-death", ()) if isinstance(one, dict)]
    same = next((one for one in deaths if (one.get("queue"), one.get("reason")) == (queue, reason)), None)
    if same is not None:
        deaths.remove(same)
        same["count"] = same.get("count", 1) + 1
        death = same
    else:
        death = {"count": 1, "reason": reason, "queue": queue, "time": datetime.now(UTC).replace(microsecond=0)}
        death.update({"exchange": message.exchange, "routing-keys": [message.routing_key]})
        if message.properties.expiration is not None:
            death["original-expiration"] = message.properties.expiration
    first = {"x-first-death-queue": queue, "x-first-death-reason": reason, "x-first-death-exchange": message.exchange}
    headers = {**first, **message.headers, "x-death": [death, *deaths]}
    headers.pop(DELIVERY_COUNT, None)
    properties = msgspec.structs.replace(message.properties, headers=headers, expiration=None)
    return Message(exchange, routing_key, properties, message.body)


def is_cycle(message: Message, queue: str) -> bool:
    """Tell whether a dead message was in this queue before without anybody having rejected it since: it would go round for ever."""
    since: list[Any] = []
    for death in message.headers.get("x-death", ()):
        since.append(death.get("reason"))
        if death.get("queue") == queue:
            return "rejected" not in since
    return False
