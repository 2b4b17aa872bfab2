"""`Amqp`: the resource that an application uses."""

from dataclasses import fields
from time import monotonic
from typing import Any, ClassVar
from uuid import uuid4

import gevent

from nucleon import green
from nucleon.amqp.address import address_from
from nucleon.amqp.channel import Channel
from nucleon.amqp.codec import Method, Properties, methods
from nucleon.amqp.confirms import Confirm
from nucleon.amqp.connection import Connection
from nucleon.amqp.consumer import SETTLE_SECONDS, Consumer
from nucleon.amqp.contents import encoded, inherited, with_message_id
from nucleon.amqp.errors import ConnectionBlocked
from nucleon.amqp.exchange import Exchange
from nucleon.amqp.link import Link
from nucleon.amqp.message import Message
from nucleon.amqp.publisher import Publishers
from nucleon.amqp.queue import Queue
from nucleon.amqp.rpc import Caller
from nucleon.amqp.settings import Settings as AmqpSettings
from nucleon.amqp.topology import Control, Topology
from nucleon.amqp.transaction import Transaction
from nucleon.errors import SetupError
from nucleon.green.waits import Waits
from nucleon.secret import Secret

QUIET_POLL_SECONDS = 0.02


class Amqp:
    """RabbitMQ behind two connections that come back by themselves: one publishes, one consumes.

    A resource: `broker = app.use(Amqp())`. Alone: `with Amqp(url="amqp://...") as broker: ...`. Nothing is opened before it is
    needed. Any number of greenlets may use it.
    """

    kind: ClassVar[str] = "amqp"
    Settings: ClassVar[type[AmqpSettings]] = AmqpSettings

    def __init__(self, **defaults: Any) -> None:
        """Open nothing. defaults: values of `Settings` that the settings files may override; `url` may be a plain string."""
        unknown = sorted(set(defaults) - {field.name for field in fields(AmqpSettings)})
        if unknown:
            raise SetupError(f"Amqp() has no setting {', '.join(unknown)}")
        if isinstance(defaults.get("url"), str):
            defaults["url"] = Secret(defaults["url"])
        self.name = self.kind
        self.settings = AmqpSettings(**defaults)
        self.is_started = self.is_stopped = False
        self.topology = Topology()
        self.consumers: set[Consumer] = set()
        self.settled_at = 0.0  # when a message of a quorum queue was last settled
        self._open: _Open | None = None

    def configure(self, settings: AmqpSettings, name: str) -> None:
        """Take the settings of the section `[name]`; before the first use."""
        self.settings = settings
        self.name = name

    def start(self) -> None:
        """Be ready in this worker, after the fork; opens nothing. What was open before is left without a word: it is the parent's."""
        opened, self._open = self._open, None
        for consumer in list(self.consumers):
            consumer.end()
        if opened is not None:
            opened.publishing.drop()
            opened.consuming.drop()
        self.is_started, self.is_stopped = True, False

    def stop(self) -> None:
        """Stop every consumer and close both connections; RabbitMQ puts back what is not acknowledged. Bounded by two seconds."""
        self.is_stopped = True
        opened, self._open = self._open, None
        for consumer in list(self.consumers):
            consumer.end()
        if opened is not None:
            gevent.sleep(max(0.0, self.settled_at + SETTLE_SECONDS - monotonic()))
            stopping = [green.spawn(link.stop) for link in (opened.publishing, opened.consuming)]
            for one in stopping:
                one.join()
            opened.waits.close()
        self.is_started = False

    def __enter__(self) -> "Amqp":
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def health(self) -> None:
        """Return when RabbitMQ answers and takes messages; raise `ConnectionLost`, `ConnectionBlocked`, `NoAnswer`, ... when not."""
        self.consuming.get()
        self.ask_twice(methods.BasicQos(), min(self.settings.connect_seconds, self.settings.wait_seconds))
        reason = self.publishing.get().blocked_reason
        if reason is not None:
            raise ConnectionBlocked(f"RabbitMQ takes no messages: {reason}")

    # --- handles

    def queue(
        self,
        name: str,
        *,
        kind: str = "classic",
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        prefetch: int | None = None,
        dead_letter: str | None = None,
        message_ttl: float | None = None,
        expires: float | None = None,
        max_length: int | None = None,
        max_bytes: int | None = None,
        overflow: str | None = None,
        max_priority: int | None = None,
        delivery_limit: int | None = None,
        arguments: dict[str, Any] | None = None,
        declare: bool = True,
    ) -> Queue:
        """Return a handle of a queue, which is declared when it is first used.

        kind: "classic", "quorum" or "stream". dead_letter: the queue for messages that were refused; it is declared too.
        message_ttl, expires: seconds after which a message, or the unused queue, goes. overflow: "drop-head", "reject-publish" (put
        raises `queue.Full`) or "reject-publish-dlx". delivery_limit: of quorum queues, redeliveries before dead-lettering.
        declare=False: the queue exists, or is somebody else's affair.
        """
        limits = {
            "x-queue-type": None if kind == "classic" else kind,
            "x-dead-letter-exchange": None if dead_letter is None else "",
            "x-dead-letter-routing-key": dead_letter,
            "x-message-ttl": None if message_ttl is None else round(message_ttl * 1000),
            "x-expires": None if expires is None else round(expires * 1000),
            "x-max-length": max_length,
            "x-max-length-bytes": max_bytes,
            "x-overflow": overflow,
            "x-max-priority": max_priority,
            "x-delivery-limit": delivery_limit,
        }
        given = {key: value for key, value in limits.items() if value is not None}
        declaration = methods.QueueDeclare(
            queue=name, durable=durable, exclusive=exclusive, auto_delete=auto_delete, arguments={**given, **(arguments or {})}
        )  # fmt: skip
        return Queue(self, declaration, prefetch=prefetch or self.settings.prefetch, dead_letter=dead_letter, is_declared_here=declare)

    def temporary_queue(self, *, prefetch: int | None = None, **options: Any) -> Queue:
        """Return a queue of this client alone, under a new name, which goes with its connection: `queue` with exclusive=True."""
        return self.queue(f"nucleon.{uuid4().hex}", durable=False, exclusive=True, prefetch=prefetch, **options)

    def exchange(
        self,
        name: str,
        *,
        kind: str = "topic",
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        alternate: str | None = None,
        arguments: dict[str, Any] | None = None,
        declare: bool = True,
    ) -> Exchange:
        """Return a handle of an exchange, which is declared when it is first used.

        kind: "direct", "fanout", "topic", "headers", or one of a plugin ("x-..."). alternate: the exchange for messages that no binding
        takes. declare=False: it exists, or is somebody else's affair.
        """
        given = {**({} if alternate is None else {"alternate-exchange": alternate}), **(arguments or {})}
        declaration = methods.ExchangeDeclare(
            exchange=name, kind=kind, durable=durable, auto_delete=auto_delete, internal=internal, arguments=given
        )  # fmt: skip
        return Exchange(self, declaration, is_declared_here=declare)

    # --- publishing

    def publish(
        self,
        exchange: str | Exchange,
        routing_key: str,
        body: Any,
        *,
        mandatory: bool = False,
        confirm: bool = True,
        retry: bool = False,
        timeout: float | None = None,
        headers: dict[str, Any] | None = None,
        **properties: Any,
    ) -> None:
        """Publish a message and return when RabbitMQ has it.

        body: bytes, str (UTF-8), or what msgspec encodes as JSON, such as a `Model`. mandatory: raise `Unroutable` when no queue takes
        it. confirm=False: do not wait; the message may be lost and nobody is told. retry: send it again when the outcome is unknown
        (duplicates are possible; it gets a message_id). timeout: seconds, by default `wait_seconds`. properties: fields of
        `Properties` (message_id, priority, type, ...) and `ttl` in seconds.

        Raises `OutcomeUnknown`, `Rejected`, `Unroutable`, `ConnectionLost`, `ConnectionBlocked`, `ChannelClosed` (404: no such
        exchange).
        """
        name = exchange if isinstance(exchange, str) else _prepared(exchange, timeout)
        if headers is not None:
            properties["headers"] = headers
        data, encoding = encoded(body, with_message_id(properties) if retry else properties)
        if confirm:
            self.publishers.put(name, routing_key, data, encoding, is_mandatory=mandatory, retry=retry, timeout=timeout)
        else:
            self.publishers.send(name, routing_key, data, encoding, is_confirmed=False, timeout=timeout)

    def publish_async(
        self,
        exchange: str | Exchange,
        routing_key: str,
        body: Any,
        *,
        mandatory: bool = False,
        timeout: float | None = None,
        **properties: Any,
    ) -> Confirm:
        """Publish a message and return its confirm at once; `publish` for the arguments."""
        name = exchange if isinstance(exchange, str) else _prepared(exchange, timeout)
        data, encoding = encoded(body, properties)
        confirm = self.publishers.send(name, routing_key, data, encoding, is_mandatory=mandatory, timeout=timeout)
        assert confirm is not None
        return confirm

    def rpc(self, routing_key: str, body: Any, *, exchange: str = "", timeout: float | None = None, **properties: Any) -> Message:
        """Ask a question and return the answer: `broker.rpc("prices", {"sku": 7}, timeout=2).json()`.

        Who answers gets the message from the queue and calls `message.reply(body)`. The question expires with `timeout` (default
        `answer_seconds`). Raises `Unroutable`, `NoAnswer`, `AnswerLate`, `OutcomeUnknown`.
        """
        patience = green.seconds_left(self.settings.answer_seconds if timeout is None else timeout)
        assert patience is not None
        if timeout is None:
            self.publishing.get()  # at once when RabbitMQ has been away for long
        data, _ = encoded(body)
        given = properties.pop("headers", None) or {}
        headers = {**given, **inherited(given)} or None
        asked = Properties(**{"delivery_mode": 1, "expiration": str(max(1, round(patience * 1000))), "headers": headers, **properties})
        return self._opened().caller.call(exchange, routing_key, data, asked, patience)

    def transaction(self, timeout: float | None = None) -> Transaction:
        """Return a transaction of AMQP: `with broker.transaction() as work: work.publish(...)`."""
        return Transaction(self.publishing, timeout)

    # --- below

    def channel(self, *, consuming: bool = False, timeout: float | None = None) -> Channel:
        """Open a channel with every method of the protocol, on the publishing or the consuming connection. It does not come back."""
        return (self.consuming if consuming else self.publishing).get(timeout).channel(timeout)

    def ask(self, method: Method, timeout: float | None = None) -> Any:
        """Send a method of the topology on the consuming connection and return the answer. Raises `ChannelClosed`, ..."""
        return self._opened().control.call(method, timeout)

    def ask_twice(self, method: Method, timeout: float | None = None) -> Any:
        """As `ask`, once more when the connection is lost in between: for what may be said twice."""
        return self._opened().control.again(method, timeout)

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until every queue consumed here is empty and every message taken is settled: for tests. False: not within `timeout`."""
        until = monotonic() + timeout
        quiet = 0
        while monotonic() < until:
            quiet = quiet + 1 if self._is_quiet() else 0
            if quiet == 2:  # an answer about a queue may lag behind a delivery
                return True
            green.sleep(QUIET_POLL_SECONDS)
        return False

    def _is_quiet(self) -> bool:
        if self.publishers.unconfirmed() or any(consumer.is_busy() for consumer in self.consumers):
            return False
        return all(consumer.queue.qsize() == 0 for consumer in list(self.consumers) if consumer.queue.kind != "stream")

    @property
    def publishing(self) -> Link:
        """The connection that publishes."""
        return self._opened().publishing

    @property
    def consuming(self) -> Link:
        """The connection that consumes, declares and owns exclusive queues."""
        return self._opened().consuming

    @property
    def publishers(self) -> Publishers:
        """The channels that messages leave by."""
        return self._opened().publishers

    @property
    def waits(self) -> Waits:
        """What greenlets wait with that outlives one connection."""
        return self._opened().waits

    def _opened(self) -> "_Open":
        opened = self._open
        if opened is None:
            opened = self._open = _Open(self.settings, self.topology)
            self.is_started = True
        return opened

    def __repr__(self) -> str:
        if self._open is None:
            where = "no server set" if self.settings.url is None else "not used yet"
            return f"<Amqp {self.name!r} {where}>"
        return f"<Amqp {self.name!r} {self._open!r}, {len(self.consumers)} consumers>"


class _Open:
    """What a client has once it is used: two links and what lives on them."""

    def __init__(self, settings: AmqpSettings, topology: Topology) -> None:
        address, settings = address_from(settings)
        self._topology = topology
        self.waits = Waits()
        self.publishing = Link("publishing", address, settings, self._replay)
        self.consuming = Link("consuming", address, settings, self._replay)
        self.publishers = Publishers(self.publishing, settings.window)
        self.control = Control(self.consuming)
        self.caller = Caller(self.publishing, self.waits)

    def _replay(self, link: Link, connection: Connection) -> None:
        self._topology.replay(connection, with_exclusive=link is self.consuming)

    def __repr__(self) -> str:
        again = max(self.publishing.recoveries, self.consuming.recoveries, 1) - 1
        unconfirmed = self.publishers.unconfirmed()
        return f"publishing {self.publishing!r}, {unconfirmed} unconfirmed, consuming {self.consuming!r}, {again} recoveries"


def _prepared(exchange: Exchange, timeout: float | None) -> str:
    exchange.prepare(timeout)
    return exchange.name
