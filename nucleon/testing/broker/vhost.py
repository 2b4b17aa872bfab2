"""A virtual host: exchanges, queues and bindings by name, and the way of a message through them."""

import secrets
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from nucleon.testing.broker.messages import Message, after_death, is_cycle, ttl_seconds_of
from nucleon.testing.broker.queues import Queue
from nucleon.testing.broker.refusal import (
    ACCESS_REFUSED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    Refusal,
)
from nucleon.testing.broker.routing import BUILT_IN, DEFAULT, MATCHES, Binding, Exchange, queues_for
from nucleon.testing.broker.streams import Stream

RESERVED = "amq."
EXCHANGE_FACTS = ("kind", "durable", "auto_delete", "internal", "arguments")
NAMED = {"kind": "type"}


class VHost:
    """One virtual host. now: the broker's clock; timed: told when a message may expire at a new time."""

    def __init__(self, name: str, now: Callable[[], float], timed: Callable[[], None]) -> None:
        self.name = name
        self.now = now
        self.timed = timed
        self.exchanges = {one: Exchange(one, kind) for one, kind in BUILT_IN.items()}
        self.queues: dict[str, Queue] = {}

    # exchanges

    def exchange(self, name: str) -> Exchange:
        """Return an exchange; refuses with 404."""
        if name not in self.exchanges:
            raise Refusal(NOT_FOUND, f"no exchange '{name}' in vhost '{self.name}'")
        return self.exchanges[name]

    def declare_exchange(self, wanted: Exchange) -> None:
        """Make an exchange, or see that the one of that name is the same."""
        if wanted.kind not in MATCHES:
            raise Refusal(503, f"unknown exchange type '{wanted.kind}'")
        there = self.exchanges.get(wanted.name)
        if there is None:
            self._refuse_reserved("exchange", wanted.name)
            self.exchanges[wanted.name] = wanted
            return
        for fact in EXCHANGE_FACTS:
            self._same(NAMED.get(fact, fact), f"exchange '{wanted.name}'", getattr(wanted, fact), getattr(there, fact))

    def delete_exchange(self, name: str, if_unused: bool) -> None:
        """Remove an exchange with its bindings; one that is not there is gone already."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if name in BUILT_IN:
            self._refuse_reserved("exchange", name or "amq.default")
        if if_unused and exchange.bindings:
            raise Refusal(PRECONDITION_FAILED, f"exchange '{name}' in vhost '{self.name}' in use")
        del self.exchanges[name]
        self._forget_bindings_to(name, is_to_queue=False)

    # queues

    def queue(self, name: str, owner: object) -> Queue:
        """Return a queue that this connection may use; refuses with 404 and 405."""
        if name not in self.queues:
            raise Refusal(NOT_FOUND, f"no queue '{name}' in vhost '{self.name}'")
        queue = self.queues[name]
        if queue.owner not in (None, owner):
            what = f"cannot obtain exclusive access to locked queue '{name}' in vhost '{self.name}'"
            raise Refusal(RESOURCE_LOCKED, f"{what}. It could be originally declared on another connection or the exclusive property value "
                          "does not match that of the original declaration.")  # fmt: skip
        return queue

    def declare_queue(
        self, name: str, owner: object, *, durable: bool, exclusive: bool, auto_delete: bool, arguments: dict[str, Any]
    ) -> Queue:
        """Make a queue, or see that the one of that name is the same; an empty name asks for one of the broker's."""
        if name in self.queues:
            queue = self.queue(name, owner)
            where = f"queue '{name}'"
            self._same("durable", where, durable, queue.durable)
            self._same("exclusive", where, exclusive, queue.owner is not None)
            self._same("auto_delete", where, auto_delete, queue.auto_delete)
            for one in sorted({*arguments, *queue.arguments}):
                self._same(one, where, arguments.get(one), queue.arguments.get(one))
            return queue
        self._refuse_reserved("queue", name)
        name = name or f"amq.gen-{secrets.token_urlsafe(16)}"
        kind = Stream if arguments.get("x-queue-type") == "stream" else Queue
        queue = kind(name, durable, owner if exclusive else None, auto_delete, arguments, self.now, self._bury, self.timed)
        self.queues[name] = queue
        return queue

    def delete_queue(self, name: str, if_unused: bool = False, if_empty: bool = False, owner: object = None) -> int:
        """Remove a queue and return how many messages were lost with it; one that is not there is gone already."""
        if name not in self.queues:
            return 0
        queue = self.queue(name, owner or self.queues[name].owner)
        if if_unused and queue.consumers:
            raise Refusal(PRECONDITION_FAILED, f"queue '{name}' in vhost '{self.name}' in use")
        if if_empty and len(queue):
            raise Refusal(PRECONDITION_FAILED, f"queue '{name}' in vhost '{self.name}' is not empty")
        del self.queues[name]
        self._forget_bindings_to(name, is_to_queue=True)
        for consumer in list(queue.consumers):
            consumer.cancelled()
        return queue.deleted()

    def left(self, queue: Queue) -> None:
        """Called when a consumer has gone: an auto-delete queue goes with its last one."""
        queue.use()
        if queue.auto_delete and queue.was_consumed and not queue.consumers and self.queues.get(queue.name) is queue:
            self.delete_queue(queue.name)

    def delete_unused(self) -> None:
        """Delete the queues whose time is over (x-expires); their messages are not dead-lettered."""
        now = monotonic()
        for name in [name for name, queue in self.queues.items() if queue.lasts_until is not None and queue.lasts_until <= now]:
            self.delete_queue(name)

    def drop_exclusive(self, owner: object) -> None:
        """Delete the queues of a connection that has ended."""
        for name in [name for name, queue in self.queues.items() if queue.owner is owner]:
            self.delete_queue(name)

    # bindings

    def bind(self, source: str, binding: Binding, owner: object) -> None:
        """Bind a queue or an exchange to an exchange; twice is once."""
        exchange = self._ends_of(source, binding, owner)
        if binding not in exchange.bindings:
            exchange.bindings.append(binding)

    def unbind(self, source: str, binding: Binding, owner: object) -> None:
        """Undo a binding; one that is not there is gone already."""
        exchange = self._ends_of(source, binding, owner)
        if binding in exchange.bindings:
            exchange.bindings.remove(binding)
            self._tidy(exchange)

    # messages

    def route(self, message: Message) -> list[Queue]:
        """Return the queues that a message goes to. Refuses an exchange that is not there, and one that clients may not publish to."""
        exchange = self.exchange(message.exchange)
        if exchange.internal:
            raise Refusal(ACCESS_REFUSED, f"cannot publish to internal exchange '{exchange.name}' in vhost '{self.name}'")
        ttl_seconds_of(message.properties)
        names = queues_for(self.exchanges, exchange, message.routing_key, message.headers)
        return [self.queues[name] for name in names if name in self.queues]

    def _bury(self, queue: Queue, message: Message, reason: str) -> None:
        """Send a dead message to its queue's dead-letter exchange, when there is one."""
        exchange = queue.arguments.get("x-dead-letter-exchange")
        if not isinstance(exchange, str) or exchange not in self.exchanges:
            return
        key = queue.arguments.get("x-dead-letter-routing-key", message.routing_key)
        dead = after_death(message, queue.name, reason, exchange, key)
        for name in queues_for(self.exchanges, self.exchanges[exchange], key, dead.headers):
            if name in self.queues and not (reason != "rejected" and is_cycle(message, name)):
                self.queues[name].push(dead.copy())

    def _ends_of(self, source: str, binding: Binding, owner: object) -> Exchange:
        if source == DEFAULT or (not binding.is_to_queue and binding.destination == DEFAULT):
            raise Refusal(ACCESS_REFUSED, "operation not permitted on the default exchange")
        if binding.is_to_queue:
            self.queue(binding.destination, owner)
        else:
            self.exchange(binding.destination)
        return self.exchange(source)

    def _forget_bindings_to(self, name: str, *, is_to_queue: bool) -> None:
        for exchange in list(self.exchanges.values()):
            kept = [one for one in exchange.bindings if (one.destination, one.is_to_queue) != (name, is_to_queue)]
            if len(kept) != len(exchange.bindings):
                exchange.bindings = kept
                self._tidy(exchange)

    def _tidy(self, exchange: Exchange) -> None:
        if exchange.auto_delete and not exchange.bindings:
            self.exchanges.pop(exchange.name, None)

    def _refuse_reserved(self, what: str, name: str) -> None:
        if name.startswith(RESERVED):
            raise Refusal(ACCESS_REFUSED, f"{what} name '{name}' contains reserved prefix 'amq.*'")

    def _same(self, fact: str, where: str, received: object, current: object) -> None:
        if received != current:
            shown = [_shown(received), _shown(current)]
            raise Refusal(
                PRECONDITION_FAILED,
                f"inequivalent arg '{fact}' for {where} in vhost '{self.name}': received {shown[0]} but current is {shown[1]}",
            )


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"'{str(value).lower()}'"
    return "the value '" + (str(dict(value)) if isinstance(value, Mapping) else str(value)) + "'"
