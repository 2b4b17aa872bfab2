"""An exchange, of any kind, by name."""

from typing import TYPE_CHECKING, Any

from nucleon import green
from nucleon.amqp.codec import methods
from nucleon.amqp.confirms import Confirm

if TYPE_CHECKING:
    from nucleon.amqp.client import Amqp


class Exchange:
    """Where messages are published to; it gives them to the queues and exchanges that are bound to it.

    Made by `client.exchange(name, kind=...)`; declared when it is first used, and again on every new connection.
    """

    def __init__(self, client: "Amqp", declaration: methods.ExchangeDeclare, *, is_declared_here: bool = True) -> None:
        self.client = client
        self.name = declaration.exchange
        self.declaration = declaration
        self._is_ready = not is_declared_here
        self._bindings: list[tuple[str | Exchange, methods.ExchangeBind]] = []
        self._preparing = green.Lock()

    def prepare(self, timeout: float | None = None) -> None:
        """Declare the exchange and its bindings when that has not been done yet. Raises `ChannelClosed`, ..."""
        if not self._is_ready:
            with self._preparing:
                if not self._is_ready:
                    self.declare(timeout)

    def declare(self, timeout: float | None = None) -> None:
        """Declare now. Raises `ChannelClosed` with code 406 when it exists with other properties."""
        self.client.ask_twice(self.declaration, timeout)
        self.client.topology.remember(self.declaration)
        self._is_ready = True
        for source, binding in self._bindings:
            self._bind_now(source, binding, timeout)

    def bind(self, source: "str | Exchange", routing_key: str = "", *, arguments: dict[str, Any] | None = None) -> "Exchange":
        """Let messages of another exchange come here too, and return this one; on a client that was not started, it is noted."""
        name = source if isinstance(source, str) else source.name
        binding = methods.ExchangeBind(0, self.name, name, routing_key, arguments=arguments or {})
        self._bindings.append((source, binding))
        if self.client.is_started:
            if self._is_ready:
                self._bind_now(source, binding, None)
            else:
                self.prepare()
        return self

    def _bind_now(self, source: "str | Exchange", binding: methods.ExchangeBind, timeout: float | None) -> None:
        if not isinstance(source, str):
            source.prepare(timeout)
        self.client.ask_twice(binding, timeout)
        self.client.topology.remember(binding)

    def unbind(self, source: "str | Exchange", routing_key: str = "", *, arguments: dict[str, Any] | None = None) -> None:
        """Take a binding away."""
        name = source if isinstance(source, str) else source.name
        binding = methods.ExchangeBind(0, self.name, name, routing_key, arguments=arguments or {})
        self._bindings = [one for one in self._bindings if one[1] != binding]
        self.client.topology.forget(binding)
        self.client.ask_twice(methods.ExchangeUnbind(0, self.name, name, routing_key, arguments=arguments or {}))

    def publish(self, routing_key: str, body: Any, **options: Any) -> None:
        """Publish and return when RabbitMQ has the message: `client.publish` with this exchange."""
        self.prepare(options.get("timeout"))
        self.client.publish(self.name, routing_key, body, **options)

    def publish_async(self, routing_key: str, body: Any, **options: Any) -> Confirm:
        """Publish and return the confirm at once: `client.publish_async` with this exchange."""
        self.prepare(options.get("timeout"))
        return self.client.publish_async(self.name, routing_key, body, **options)

    def delete(self, *, if_unused: bool = False) -> None:
        """Delete the exchange; the handle declares it again when it is used again."""
        self.client.topology.forget_exchange(self.name)
        self.client.ask(methods.ExchangeDelete(0, self.name, if_unused))
        self._is_ready = False

    def __repr__(self) -> str:
        return f"<Exchange {self.name!r} {self.declaration.kind}>"
