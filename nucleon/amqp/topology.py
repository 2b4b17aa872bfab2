"""Exchanges, queues and bindings that live handles want, declared when first needed and again on every new connection."""

import logging
from collections.abc import Iterator

from nucleon import green
from nucleon.amqp.channel import Channel
from nucleon.amqp.codec import Method, methods
from nucleon.amqp.connection import Connection
from nucleon.amqp.errors import ChannelClosed, ConnectionLost, NoAnswer
from nucleon.amqp.link import Link

log = logging.getLogger("nucleon.amqp")

LOCKED = 405


class Control:
    """Questions about the topology, one after the other on a channel of their own, which is replaced when RabbitMQ closes it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel: Channel | None = None
        self._lock = green.Lock()

    def call(self, method: Method, timeout: float | None = None) -> object:
        """Ask and return the answer. Raises `ChannelClosed`, `ConnectionLost`, `NoAnswer`."""
        return self.channel(timeout).call(method, timeout)

    def again(self, method: Method, timeout: float | None = None) -> object:
        """Ask what may be asked twice; once more when the connection is lost under the question."""
        channel = self.channel(timeout)
        try:
            return channel.call(method, timeout)
        except ConnectionLost:
            return self.call(method, timeout)

    def channel(self, timeout: float | None = None) -> Channel:
        """Return the channel, opened when there is none."""
        channel = self._channel
        if channel is not None and channel.error is None:
            return channel
        with self._lock:
            if self._channel is None or self._channel.error is not None:
                self._channel = self._link.get(timeout).channel(timeout)
            return self._channel


class Topology:
    """What was declared, so that it can be declared again. Exclusive queues belong to the consuming connection."""

    def __init__(self) -> None:
        self._exchanges: dict[str, methods.ExchangeDeclare] = {}
        self._queues: dict[str, methods.QueueDeclare] = {}
        self._bindings: dict[tuple[str, str, str, str], methods.QueueBind | methods.ExchangeBind] = {}

    def remember(self, method: Method) -> None:
        """Keep a declaration or a binding that RabbitMQ has accepted."""
        if isinstance(method, methods.ExchangeDeclare):
            self._exchanges[method.exchange] = method
        elif isinstance(method, methods.QueueDeclare):
            self._queues[method.queue] = method
        elif isinstance(method, (methods.QueueBind, methods.ExchangeBind)):
            self._bindings[_key(method)] = method

    def forget(self, method: Method) -> None:
        """Drop a binding."""
        if isinstance(method, (methods.QueueBind, methods.ExchangeBind)):
            self._bindings.pop(_key(method), None)

    def forget_queue(self, name: str) -> None:
        """Drop a queue and its bindings: it was deleted, or it was an auto-delete queue and its last consumer has gone."""
        self._queues.pop(name, None)
        self._bindings = {key: one for key, one in self._bindings.items() if key[:2] != ("queue", name)}

    def forget_exchange(self, name: str) -> None:
        """Drop an exchange and its bindings."""
        self._exchanges.pop(name, None)
        self._bindings = {key: one for key, one in self._bindings.items() if name not in (key[2], key[1] if key[0] == "exchange" else None)}

    def replay(self, connection: Connection, *, with_exclusive: bool) -> None:
        """Declare everything on a new connection: exchanges, queues, bindings. What fails is logged and does not keep the rest.

        Raises `ConnectionLost` when the connection dies meanwhile.
        """
        channel: Channel | None = None
        for method in list(self._wanted(with_exclusive)):
            if channel is None or channel.error is not None:
                channel = connection.channel()
            try:
                channel.call(method)
            except (ChannelClosed, NoAnswer) as error:
                if getattr(error, "code", 0) != LOCKED:  # its consumer declares a locked queue again and again, while others go on
                    log.warning("cannot declare %r again: %s", method, error)
        if channel is not None and channel.error is None:
            channel.close()

    def of_queue(self, name: str) -> list[Method]:
        """Return what has to be declared for one queue."""
        queue = self._queues.get(name)
        return [] if queue is None else [queue, *(one for key, one in self._bindings.items() if key[:2] == ("queue", name))]

    def _wanted(self, with_exclusive: bool) -> Iterator[Method]:
        yield from self._exchanges.values()
        left_out = set() if with_exclusive else {name for name, queue in self._queues.items() if queue.exclusive}
        yield from (queue for name, queue in self._queues.items() if name not in left_out)
        yield from (one for key, one in self._bindings.items() if key[0] != "queue" or key[1] not in left_out)


def _key(binding: methods.QueueBind | methods.ExchangeBind) -> tuple[str, str, str, str]:
    if isinstance(binding, methods.QueueBind):
        return "queue", binding.queue, binding.exchange, f"{binding.routing_key} {binding.arguments}"
    return "exchange", binding.destination, binding.source, f"{binding.routing_key} {binding.arguments}"
