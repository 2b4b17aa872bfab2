"""A remote queue, used like a local one."""

import logging
import queue
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import gevent

from nucleon import green
from nucleon.amqp.channel import Channel
from nucleon.amqp.codec import methods
from nucleon.amqp.confirms import Confirm
from nucleon.amqp.consumer import OFFSET, Consumer
from nucleon.amqp.contents import context_of, encoded, with_message_id
from nucleon.amqp.errors import AccessRefused, AmqpError, ConnectionLost, ConsumerCancelled, NoAnswer
from nucleon.amqp.message import Message

if TYPE_CHECKING:
    from nucleon.amqp.client import Amqp
    from nucleon.amqp.exchange import Exchange
    from nucleon.amqp.typed import TypedQueue

log = logging.getLogger("nucleon.amqp")
T = TypeVar("T")

DELAY_LEASE_SECONDS = 30.0  # a delay queue is declared again at least so often while it is used
DELAY_KEPT_SECONDS = 120.0  # and goes so long after its last message has left
RESTART_SECONDS = 1.0  # pause of `serve` before it consumes again from a queue that was deleted
KILL_SECONDS = 1.0  # a killed function gives its message back, which takes no answer of RabbitMQ


class Queue:
    """A queue of RabbitMQ. Made by `client.queue(name)`; declared when it is first used, and again on every new connection.

    `put` returns when RabbitMQ has the message (on disk, when the queue is durable); `get` takes one, which is to be acknowledged.
    """

    def __init__(
        self,
        client: "Amqp",
        declaration: methods.QueueDeclare,
        *,
        prefetch: int,
        dead_letter: str | None = None,
        is_declared_here: bool = True,
    ) -> None:
        self.client = client
        self.name = declaration.queue
        self.declaration = declaration
        self.prefetch = prefetch
        self.dead_letter = dead_letter
        self.is_declared_here = is_declared_here
        self._is_ready = not is_declared_here
        self._bindings: list[tuple[str | Exchange, methods.QueueBind]] = []
        self._preparing = green.Lock()
        self._consumer: Consumer | None = None
        self._consumers: set[Consumer] = set()
        self._getter: Channel | None = None
        self._delays: dict[int, float] = {}

    # --- what it is

    def prepare(self, timeout: float | None = None) -> None:
        """Declare the queue, its dead-letter queue and its bindings when that has not been done yet. Raises `ChannelClosed`, ..."""
        if not self._is_ready:
            with self._preparing:
                if not self._is_ready:
                    self.declare(timeout)

    def declare(self, timeout: float | None = None) -> methods.QueueDeclareOk:
        """Declare now and return RabbitMQ's answer with the counts.

        Raises `ChannelClosed` with code 406 when the queue exists with other properties, 405 when another connection owns it.
        """
        client = self.client
        if self.dead_letter is not None:
            client.queue(self.dead_letter, kind="quorum" if self.kind == "quorum" else "classic").prepare(timeout)
        answer: methods.QueueDeclareOk = client.ask_twice(self.declaration, timeout)
        client.topology.remember(self.declaration)
        self._is_ready = True
        for source, binding in self._bindings:
            self._bind_now(source, binding, timeout)
        return answer

    @property
    def kind(self) -> str:
        """The type of the queue: classic, quorum or stream."""
        return str(self.declaration.arguments.get("x-queue-type", "classic"))

    @property
    def is_slow_to_settle(self) -> bool:
        """Tell whether acknowledgements need a moment before their channel closes: of quorum queues, and of queues that others declare."""
        return self.kind == "quorum" or not self.is_declared_here

    def bind(self, exchange: "str | Exchange", routing_key: str = "", *, arguments: dict[str, Any] | None = None) -> "Queue":
        """Let messages of an exchange come here, and return the queue.

        On a client that was not started yet, this is noted and done when the queue is declared.
        """
        name = exchange if isinstance(exchange, str) else exchange.name
        binding = methods.QueueBind(0, self.name, name, routing_key, arguments=arguments or {})
        self._bindings.append((exchange, binding))
        if self.client.is_started:
            if self._is_ready:
                self._bind_now(exchange, binding, None)
            else:
                self.prepare()
        return self

    def _bind_now(self, exchange: "str | Exchange", binding: methods.QueueBind, timeout: float | None) -> None:
        if not isinstance(exchange, str):
            exchange.prepare(timeout)
        self.client.ask_twice(binding, timeout)
        self.client.topology.remember(binding)

    def unbind(self, exchange: "str | Exchange", routing_key: str = "", *, arguments: dict[str, Any] | None = None) -> None:
        """Take a binding away."""
        name = exchange if isinstance(exchange, str) else exchange.name
        binding = methods.QueueBind(0, self.name, name, routing_key, arguments=arguments or {})
        self._bindings = [one for one in self._bindings if one[1] != binding]
        self.client.topology.forget(binding)
        self.client.ask_twice(methods.QueueUnbind(0, self.name, name, routing_key, arguments=arguments or {}))

    def qsize(self) -> int:
        """Return how many messages wait in the queue: a remote question, whose answer may lag behind."""
        answer: methods.QueueDeclareOk = self.client.ask_twice(methods.QueueDeclare(queue=self.name, passive=True))
        return answer.message_count

    def purge(self) -> int:
        """Drop all messages that wait; return how many."""
        self.prepare()
        answer: methods.QueuePurgeOk = self.client.ask(methods.QueuePurge(queue=self.name))
        return answer.message_count

    def delete(self, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete the queue with its messages; return how many. The handle declares it again when it is used again."""
        self.release()
        self.client.topology.forget_queue(self.name)
        answer: methods.QueueDeleteOk = self.client.ask(methods.QueueDelete(0, self.name, if_unused, if_empty))
        self._is_ready = False
        return answer.message_count

    # --- putting

    def put(
        self,
        body: Any,
        *,
        timeout: float | None = None,
        retry: bool = False,
        delay: float = 0.0,
        headers: dict[str, Any] | None = None,
        priority: int | None = None,
        ttl: float | None = None,
        **properties: Any,
    ) -> None:
        """Put a message and return when RabbitMQ has it.

        body: bytes, str (UTF-8), or what msgspec encodes as JSON. timeout: seconds, by default `wait_seconds`. retry: send it again
        when the outcome is unknown (duplicates are possible; it gets a message_id). delay, ttl: seconds. properties: fields of
        `Properties` such as message_id, correlation_id, type.

        Raises `queue.Full` (`Rejected`: the queue is full; `ConnectionBlocked`: RabbitMQ takes nothing just now), `OutcomeUnknown`,
        `Unroutable` (the queue is gone), `ConnectionLost`.
        """
        self.prepare(timeout)
        if headers is not None or priority is not None or ttl is not None or properties or retry:
            properties.update(headers=headers, priority=priority, ttl=ttl)
            if retry:
                properties = with_message_id(properties)
        data, encoding = encoded(body, properties)
        name = self._delay_queue(delay, timeout) if delay > 0 else self.name
        self.client.publishers.put("", name, data, encoding, is_mandatory=True, retry=retry, timeout=timeout)

    def put_async(self, body: Any, *, timeout: float | None = None, **properties: Any) -> Confirm:
        """Put a message and return its confirm at once: `confirm.wait(5)`. Waits only while too many are on their way."""
        self.prepare(timeout)
        data, encoding = encoded(body, properties)
        confirm = self.client.publishers.send("", self.name, data, encoding, is_mandatory=True, timeout=timeout)
        assert confirm is not None
        return confirm

    def put_many(self, bodies: Iterable[Any], *, timeout: float | None = None, **properties: Any) -> int:
        """Put messages as fast as RabbitMQ confirms them; return how many, when it has them all.

        timeout: seconds for each step. Raises what `put` raises for the first that failed, after all have been answered.
        """
        patience = self.client.settings.wait_seconds if timeout is None else timeout
        most = 2 * self.client.settings.window
        open_: list[Confirm] = []
        count = 0
        for body in bodies:
            open_.append(self.put_async(body, timeout=timeout, **properties))
            count += 1
            if len(open_) >= most:
                open_ = [one for one in open_ if not one.is_done or one.error is not None]
                if open_ and open_[0].error is not None:
                    break
        failed: AmqpError | None = None
        for confirm in open_:
            try:
                confirm.wait(patience)
            except AmqpError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return count

    def put_nowait(self, body: Any, **properties: Any) -> None:
        """Put a message without confirm: it may be lost, and nobody is told when it does not reach the queue.

        Waits only while too many bytes are unsent, up to `wait_seconds`; raises `ConnectionBlocked` (a `queue.Full`) then.
        """
        self.prepare()
        data, encoding = encoded(body, properties)
        self.client.publishers.send("", self.name, data, encoding, is_confirmed=False)

    def _delay_queue(self, seconds: float, timeout: float | None) -> str:
        """Return a queue whose messages come here after `seconds`; it deletes itself when it is used no longer."""
        milliseconds = max(1, round(seconds * 1000))
        name = f"{self.name}.delay.{milliseconds}"
        if self._delays.get(milliseconds, 0.0) < monotonic():
            arguments: dict[str, Any] = {
                "x-message-ttl": milliseconds,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": self.name,
                "x-expires": milliseconds + round(DELAY_KEPT_SECONDS * 1000),
            }
            if self.kind == "quorum":  # a classic queue moves a message whose time is over without a confirm
                arguments |= {"x-queue-type": "quorum", "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
            self.client.ask_twice(methods.QueueDeclare(queue=name, durable=True, arguments=arguments), timeout)
            self._delays[milliseconds] = monotonic() + DELAY_LEASE_SECONDS
        return name

    # --- getting

    def get(self, timeout: float | None = None) -> Message:
        """Take the next message, waiting up to `timeout` seconds; it is to be acknowledged (`with message:` does).

        A consumer stays open for the next call and holds up to `prefetch` messages for it; `release` gives them back.
        Raises `queue.Empty`, `ConsumerCancelled` (the queue was deleted), `ConnectionLost`, `DeadlineExceeded` at the deadline.
        """
        return self._own_consumer().get(timeout)

    def get_nowait(self) -> Message:
        """Take a message that is in the queue now, or raise `queue.Empty`: one round trip when none is here already."""
        if self._consumer is not None:
            try:
                return self._consumer.get_nowait()
            except queue.Empty:
                pass
        self.prepare()
        channel = self._getter
        if channel is None or channel.error is not None:
            channel = self._getter = self.client.consuming.get().channel()
        answer = channel.call(methods.BasicGet(queue=self.name))
        if isinstance(answer, Message):
            answer.source = Fetched(self)
            return answer
        raise queue.Empty

    def __iter__(self) -> Iterator[Message]:
        """Give messages for ever; stop by leaving the loop (and `release`)."""
        while True:
            yield self.get()

    def _own_consumer(self) -> Consumer:
        if self._consumer is None or self._consumer.is_over:
            self._consumer = self._new_consumer(self.prefetch, False, False, {}, 0)
        return self._consumer

    def release(self) -> None:
        """Give back what `get` holds in reserve, and stop consuming until the next `get`."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def consumer(
        self,
        prefetch: int | None = None,
        *,
        no_ack: bool = False,
        limit_bytes: int = 0,
        exclusive: bool = False,
        offset: str | int | datetime | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> Consumer:
        """Return a consumer of its own: `with queue.consumer(100) as messages: for message in messages: ...`.

        prefetch: how many messages it may hold or leave unacknowledged. no_ack: RabbitMQ forgets what it has sent, which is lost with
        the connection; `limit_bytes` then bounds what is held here. offset: where to begin in a stream: "first", "last", "next",
        a number, or a time; after a lost connection it goes on behind the last message taken.
        """
        if no_ack and limit_bytes < 1:
            raise ValueError("a consumer without acknowledgement needs limit_bytes: RabbitMQ sends as much as there is")
        given = dict(arguments or {})
        if self.kind == "stream":
            given[OFFSET] = "next" if offset is None else offset
        elif offset is not None:
            raise ValueError(f"queue {self.name!r} is no stream: it has no offsets")
        return self._new_consumer(prefetch or self.prefetch, no_ack, exclusive, given, limit_bytes)

    def _new_consumer(self, prefetch: int, no_ack: bool, exclusive: bool, arguments: dict[str, Any], limit_bytes: int) -> Consumer:
        link = self.client.consuming
        return Consumer(self, link, prefetch=prefetch, no_ack=no_ack, exclusive=exclusive, arguments=arguments, limit_bytes=limit_bytes)

    def consumer_began(self, consumer: Consumer) -> None:
        """Note a consumer that consumes now."""
        self._consumers.add(consumer)
        self.client.consumers.add(consumer)

    def consumer_ended(self, consumer: Consumer) -> None:
        """Forget a consumer; RabbitMQ deletes an auto-delete queue with its last one, so it must not be declared again."""
        self._consumers.discard(consumer)
        self.client.consumers.discard(consumer)
        if self.declaration.auto_delete and not self._consumers:
            self.client.topology.forget_queue(self.name)
            self._is_ready = False

    def serve(
        self, function: Callable[[Message], object], *, workers: int = 1, prefetch: int | None = None, finish_seconds: float = 30.0
    ) -> None:
        """Run `function(message)` for every message on `workers` greenlets, until this greenlet is killed or the client stops.

        The message is acknowledged when the function returns; when it raises, that is logged and the message goes to the queue's
        dead-letter exchange. What the function publishes (an answer, too) carries the message's request id and trace on.
        When the queue is deleted, it is declared again and served on. At the end running functions have
        `finish_seconds` to finish; those that still run are killed, and their messages go back to the queue.
        """
        while not self.client.is_stopped:
            try:
                self._serve_until_it_ends(function, workers, prefetch, finish_seconds)
            except (ConnectionLost, NoAnswer, ConsumerCancelled) as error:
                if isinstance(error, AccessRefused) or self.client.is_stopped:
                    raise
                log.warning("queue %r: its consumer ended (%s); it is served again", self.name, error)
            self._is_ready = self._is_ready and not self.is_declared_here
            green.sleep(RESTART_SECONDS)

    def _serve_until_it_ends(
        self, function: Callable[[Message], object], workers: int, prefetch: int | None, finish_seconds: float
    ) -> None:
        with self.consumer(max(prefetch or self.prefetch, workers)) as consumer:
            crew = [green.spawn(self._work, consumer, function) for _ in range(workers)]
            try:
                gevent.joinall(crew)
            except BaseException:
                consumer.close()  # nothing new; those who work finish what they have
                gevent.joinall(crew, timeout=finish_seconds)
                gevent.killall(crew, timeout=KILL_SECONDS)
                raise
            if consumer.error is not None:
                raise consumer.error

    def _work(self, consumer: Consumer, function: Callable[[Message], object]) -> None:
        while True:
            try:
                message = consumer.get()
            except AmqpError:
                return
            try:
                with message:
                    context_of(message, self.name).run(function, message)
            except Exception:
                log.exception("a message of queue %r failed: %r", self.name, message)

    def of(self, kind: type[T]) -> "TypedQueue[T]":
        """Return this queue with bodies of one type: `orders = client.queue("orders").of(Order)`."""
        from nucleon.amqp.typed import TypedQueue

        return TypedQueue(self, kind)

    def __repr__(self) -> str:
        consumer = f", {self._consumer!r}" if self._consumer is not None else ""
        return f"<Queue {self.name!r} {self.kind}{', exclusive' if self.declaration.exclusive else ''}{consumer}>"


class Fetched:
    """Where a message of basic.get came from."""

    __slots__ = ("queue",)

    def __init__(self, source: Queue) -> None:
        self.queue = source

    def settled(self, _message: Message, _sent: bool) -> None:
        """A message was acknowledged or given back."""
        if self.queue.is_slow_to_settle:
            self.queue.client.settled_at = monotonic()
