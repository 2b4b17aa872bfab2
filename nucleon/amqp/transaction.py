"""Transactions of AMQP (class tx): publishes and acknowledgements that RabbitMQ takes together, per queue not atomically."""

from types import TracebackType
from typing import Any

from nucleon.amqp.channel import Channel
from nucleon.amqp.codec import methods
from nucleon.amqp.contents import encoded
from nucleon.amqp.errors import AmqpError, ConnectionLost, OutcomeUnknown
from nucleon.amqp.link import Link


class Transaction:
    """`with client.transaction() as work: work.publish(...)`: committed when the block ends well, rolled back when it raises.

    A confirmed `put` is faster and safer for one message; this is for several that belong together.
    Raises `ConnectionLost` when the connection goes before the commit, `OutcomeUnknown` when it goes during it.
    """

    def __init__(self, link: Link, timeout: float | None) -> None:
        self._link = link
        self._timeout = timeout
        self._channel: Channel | None = None

    @property
    def channel(self) -> Channel:
        """The channel, for other methods. Raises `AmqpError` outside of the block."""
        if self._channel is None:
            raise AmqpError("a transaction is used inside of its with block")
        return self._channel

    def publish(self, exchange: str, routing_key: str, body: Any, **properties: Any) -> None:
        """Publish within the transaction; see `client.publish` for body and properties."""
        data, encoding = encoded(body, properties)
        self.channel.publish(exchange, routing_key, data, encoding, timeout=self._timeout)

    def __enter__(self) -> "Transaction":
        self._channel = self._link.get(self._timeout).channel(self._timeout)
        self._channel.call(methods.TxSelect(), self._timeout)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        channel, self._channel = self.channel, None
        if kind is not None:
            channel.abandon("the transaction was given up")  # RabbitMQ rolls back what a closed channel has open
            return
        try:
            channel.call(methods.TxCommit(), self._timeout)
        except ConnectionLost as lost:
            raise OutcomeUnknown(f"{lost}; the transaction may or may not have been committed") from lost
        channel.abandon("the transaction is done")
