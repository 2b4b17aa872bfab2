"""One channel of a client: every method that it may send, and the messages that it has not settled yet."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from nucleon.amqp.codec import Command, Method, Properties, methods
from nucleon.testing.broker.messages import Message
from nucleon.testing.broker.queues import Queue
from nucleon.testing.broker.refusal import NO_ROUTE, NOT_ALLOWED, NOT_FOUND, NOT_IMPLEMENTED, PRECONDITION_FAILED, Refusal
from nucleon.testing.broker.routing import Binding, Exchange
from nucleon.testing.broker.streams import OFFSET

if TYPE_CHECKING:
    from nucleon.testing.broker.session import Session

REPLY_TO = "amq.rabbitmq.reply-to"


@dataclass(eq=False)
class Subscription:
    """A consumer: a channel's wish for the messages of a queue."""

    channel: "Channel"
    tag: str
    queue: Queue
    no_ack: bool
    is_exclusive: bool
    priority: int
    prefetch: int
    offset: Any = None
    unacked: int = 0

    def may_take(self) -> bool:
        """Tell whether it has room for a message."""
        if not self.channel.session.is_writable():
            return False
        if self.no_ack:
            return True
        shared = self.channel.shared_prefetch
        return (not self.prefetch or self.unacked < self.prefetch) and (not shared or len(self.channel.unacked) < shared)

    def take(self, message: Message) -> None:
        """Send a message to the client."""
        self.channel.deliver(self, message)

    def cancelled(self) -> None:
        """Tell the client that the queue has gone."""
        self.channel.consumers.pop(self.tag, None)
        if self.channel.session.knows("consumer_cancel_notify"):
            self.channel.send(methods.BasicCancel(self.tag, True))


@dataclass(slots=True)
class Unacked:
    """A message that the client has and has not settled."""

    message: Message
    queue: Queue
    consumer: Subscription | None


@dataclass(eq=False)
class Channel:
    """One open channel. `is_closing`: closed by us, waiting for the client's close-ok."""

    number: int
    session: "Session"
    consumers: dict[str, Subscription] = field(default_factory=dict)
    unacked: dict[int, Unacked] = field(default_factory=dict)
    is_closing: bool = False
    prefetch: int = 0
    shared_prefetch: int = 0
    reply_consumer: str | None = None
    _last_queue: str = ""
    _delivery_tag: int = 0
    _published: int | None = None
    _transaction: list[tuple[Callable[[], None], Callable[[], None]]] | None = None
    _consumer_number: int = 0

    # out

    def send(self, method: Method, properties: Properties | None = None, body: bytes = b"") -> None:
        """Send a method, with content when it carries some."""
        self.session.send(self.number, method, properties, body)

    def deliver(self, consumer: Subscription, message: Message) -> None:
        """Send a message to a consumer and remember it until it is settled."""
        tag = self._remember(message, consumer.queue, consumer, no_ack=consumer.no_ack)
        head = methods.BasicDeliver(consumer.tag, tag, message.redelivered, message.exchange, message.routing_key)
        self.send(head, message.counted(), message.body)

    def _remember(self, message: Message, queue: Queue, consumer: Subscription | None, *, no_ack: bool) -> int:
        self._delivery_tag += 1
        if not no_ack:
            queue.unacked += 1
            if consumer is not None:
                consumer.unacked += 1
            self.unacked[self._delivery_tag] = Unacked(message, queue, consumer)
        return self._delivery_tag

    def close(self) -> None:
        """Forget the consumers and put back what was not settled."""
        consumers, self.consumers = list(self.consumers.values()), {}
        for consumer in consumers:
            consumer.queue.consumers.remove(consumer)
        self._transaction = None
        self._requeue_all()
        for consumer in consumers:
            self.session.vhost.left(consumer.queue)

    def _requeue_all(self) -> None:
        held, self.unacked = self.unacked, {}
        for one in held.values():
            self._settle(one, "requeue")
        for queue in {id(one.queue): one.queue for one in held.values()}.values():
            queue.serve()

    # in

    def handle(self, command: Command) -> None:
        """Act on a method. Raises `Refusal`."""
        method = command.method
        if isinstance(method, methods.BasicPublish):
            self._publish(method, command)
            return
        act = ACTS.get(type(method))
        if act is None:
            raise Refusal(NOT_IMPLEMENTED, f"the fake broker does not know {type(method).__name__}")
        reply = act(self, method)
        if reply is not None and not getattr(method, "nowait", False):
            self.send(reply)

    def _queue(self, name: str) -> Queue:
        if not name and not self._last_queue:
            raise Refusal(NOT_FOUND, "no previously declared queue")
        return self.session.vhost.queue(name or self._last_queue, self.session)

    def _declare_exchange(self, method: methods.ExchangeDeclare) -> Method:
        if method.passive:
            self.session.vhost.exchange(method.exchange)
        else:
            facts = (method.kind, method.durable, method.auto_delete, method.internal, dict(method.arguments))
            self.session.vhost.declare_exchange(Exchange(method.exchange, *facts))
        return methods.ExchangeDeclareOk()

    def _delete_exchange(self, method: methods.ExchangeDelete) -> Method:
        self.session.vhost.delete_exchange(method.exchange, method.if_unused)
        return methods.ExchangeDeleteOk()

    def _bind_exchange(self, method: methods.ExchangeBind) -> Method:
        binding = Binding(method.destination, False, method.routing_key, dict(method.arguments))
        self.session.vhost.bind(method.source, binding, self.session)
        return methods.ExchangeBindOk()

    def _unbind_exchange(self, method: methods.ExchangeUnbind) -> Method:
        binding = Binding(method.destination, False, method.routing_key, dict(method.arguments))
        self.session.vhost.unbind(method.source, binding, self.session)
        return methods.ExchangeUnbindOk()

    def _declare_queue(self, method: methods.QueueDeclare) -> Method:
        vhost, arguments = self.session.vhost, dict(method.arguments)
        if method.passive:
            queue = self._queue(method.queue)
        else:
            queue = vhost.declare_queue(
                method.queue,
                self.session,
                durable=method.durable,
                exclusive=method.exclusive,
                auto_delete=method.auto_delete,
                arguments=arguments,
            )
        self._last_queue = queue.name
        queue.use()
        return methods.QueueDeclareOk(queue.name, len(queue), len(queue.consumers))

    def _bind_queue(self, method: methods.QueueBind) -> Method:
        name = self._queue(method.queue).name
        key = method.routing_key or (name if not method.queue else "")
        self.session.vhost.bind(method.exchange, Binding(name, True, key, dict(method.arguments)), self.session)
        return methods.QueueBindOk()

    def _unbind_queue(self, method: methods.QueueUnbind) -> Method:
        name = self._queue(method.queue).name
        self.session.vhost.unbind(method.exchange, Binding(name, True, method.routing_key, dict(method.arguments)), self.session)
        return methods.QueueUnbindOk()

    def _purge(self, method: methods.QueuePurge) -> Method:
        return methods.QueuePurgeOk(self._queue(method.queue).purge())

    def _delete_queue(self, method: methods.QueueDelete) -> Method:
        name = method.queue or self._last_queue
        return methods.QueueDeleteOk(self.session.vhost.delete_queue(name, method.if_unused, method.if_empty, self.session))

    def _qos(self, method: methods.BasicQos) -> Method:
        if method.prefetch_size:
            raise Refusal(NOT_IMPLEMENTED, f"prefetch_size!=0 ({method.prefetch_size})")
        if method.shared:
            self.shared_prefetch = method.prefetch_count
        else:
            self.prefetch = method.prefetch_count
        return methods.BasicQosOk()

    def _consume(self, method: methods.BasicConsume) -> Method | None:
        self._consumer_number += 1
        tag = method.consumer_tag or f"amq.ctag-{self.session.number}-{self.number}-{self._consumer_number}"
        if method.queue == REPLY_TO:
            return self._consume_replies(method, tag)
        if tag in self.consumers:
            raise Refusal(NOT_ALLOWED, f"attempt to reuse consumer tag '{tag}'")
        queue = self._queue(method.queue)
        priority = method.arguments.get("x-priority", 0)
        offset = method.arguments.get(OFFSET)
        consumer = Subscription(self, tag, queue, method.no_ack, method.exclusive, int(priority), self.prefetch, offset)
        queue.refuse_unless_fit(prefetch=self.prefetch, no_ack=method.no_ack)
        queue.refuse_unless_free(is_exclusive=method.exclusive)
        if not method.nowait:
            self.send(methods.BasicConsumeOk(tag))  # before the first delivery
        self.consumers[tag] = consumer
        queue.add_consumer(consumer)
        return None

    def _consume_replies(self, method: methods.BasicConsume, tag: str) -> Method:
        if not method.no_ack:
            raise Refusal(PRECONDITION_FAILED, "reply consumer cannot acknowledge")
        if self.reply_consumer is not None:
            raise Refusal(PRECONDITION_FAILED, "reply consumer already set")
        self.reply_consumer = tag
        return methods.BasicConsumeOk(tag)

    def _cancel(self, method: methods.BasicCancel) -> Method:
        consumer = self.consumers.pop(method.consumer_tag, None)
        if consumer is not None:
            consumer.queue.consumers.remove(consumer)
            self.session.vhost.left(consumer.queue)
        elif method.consumer_tag == self.reply_consumer:
            self.reply_consumer = None
        return methods.BasicCancelOk(method.consumer_tag)

    def _get(self, method: methods.BasicGet) -> Method | None:
        queue = self._queue(method.queue)
        queue.use()
        message = queue.pop()
        if message is None:
            return methods.BasicGetEmpty()
        tag = self._remember(message, queue, None, no_ack=method.no_ack)
        head = methods.BasicGetOk(tag, message.redelivered, message.exchange, message.routing_key, len(queue))
        self.send(head, message.counted(), message.body)
        return None

    # settling

    def _ack(self, method: methods.BasicAck) -> None:
        self._settle_tags(method.delivery_tag, method.multiple, "ack")

    def _nack(self, method: methods.BasicNack) -> None:
        self._settle_tags(method.delivery_tag, method.multiple, "requeue" if method.requeue else "reject")

    def _reject(self, method: methods.BasicReject) -> None:
        self._settle_tags(method.delivery_tag, False, "requeue" if method.requeue else "reject")

    def _recover(self, method: methods.BasicRecover | methods.BasicRecoverAsync) -> Method | None:
        if not method.requeue:
            raise Refusal(NOT_IMPLEMENTED, "requeue=false")
        self._requeue_all()
        return methods.BasicRecoverOk() if isinstance(method, methods.BasicRecover) else None

    def _settle_tags(self, tag: int, multiple: bool, how: str) -> None:
        tags = [one for one in self.unacked if multiple and (one <= tag or not tag)] or [tag]
        if tags == [tag] and tag not in self.unacked:
            raise Refusal(PRECONDITION_FAILED, f"unknown delivery tag {tag}")
        if how != "ack":
            for one in tags:
                self.unacked[one].queue.refuse_to_reject()
        held = [self.unacked.pop(one) for one in tags]

        def settle() -> None:
            for one in held:
                self._settle(one, how)
            for queue in {id(one.queue): one.queue for one in held}.values():
                queue.serve()

        if self._transaction is not None:
            self._transaction.append((settle, lambda: self.unacked.update(zip(tags, held, strict=True))))
        else:
            settle()

    def _settle(self, one: Unacked, how: str) -> None:
        one.queue.unacked -= 1
        if one.consumer is not None:
            one.consumer.unacked -= 1
        if self.session.vhost.queues.get(one.queue.name) is not one.queue:
            return  # deleted meanwhile
        if how == "requeue":
            one.queue.give_back(one.message)
        elif how == "reject":
            one.queue.bury(one.queue, one.message, "rejected")

    # publishing

    def _publish(self, method: methods.BasicPublish, command: Command) -> None:
        if method.immediate:
            raise Refusal(NOT_IMPLEMENTED, "immediate=true")
        self.session.pause_in_an_alarm()
        properties = self._reply_address(command.properties)
        message = Message(method.exchange, method.routing_key, properties, command.body)
        if method.exchange == "" and method.routing_key.startswith(f"{REPLY_TO}."):
            is_routed, queues = self.session.broker.answer(message), []
        else:
            queues = self.session.vhost.route(message)
            is_routed = bool(queues)
        number = None
        if self._published is not None:
            number = self._published = self._published + 1

        def enqueue() -> None:
            if method.mandatory and not is_routed:
                head = methods.BasicReturn(NO_ROUTE, "NO_ROUTE", method.exchange, method.routing_key)
                self.send(head, properties, command.body)
            was_taken = [queue.push(message.copy()) for queue in queues]
            if number is not None:
                self.send(methods.BasicAck(number) if all(was_taken) else methods.BasicNack(number))

        if self._transaction is not None:
            self._transaction.append((enqueue, lambda: None))
        else:
            enqueue()

    def _reply_address(self, properties: Properties) -> Properties:
        if properties.reply_to != REPLY_TO:
            return properties
        if self.reply_consumer is None:
            raise Refusal(PRECONDITION_FAILED, "fast reply consumer does not exist")
        return msgspec.structs.replace(properties, reply_to=self.session.broker.reply_address(self))

    def _confirm(self, method: methods.ConfirmSelect) -> Method:
        if self._transaction is not None:
            raise Refusal(PRECONDITION_FAILED, "cannot switch from tx to confirm mode")
        self._published = self._published or 0
        return methods.ConfirmSelectOk()

    def _tx_select(self, method: methods.TxSelect) -> Method:
        if self._published is not None:
            raise Refusal(PRECONDITION_FAILED, "cannot switch from confirm to tx mode")
        self._transaction = self._transaction or []
        return methods.TxSelectOk()

    def _tx_commit(self, method: methods.TxCommit) -> Method:
        for act, _undo in self._taken_transaction():
            act()
        return methods.TxCommitOk()

    def _tx_rollback(self, method: methods.TxRollback) -> Method:
        for _act, undo in self._taken_transaction():
            undo()
        return methods.TxRollbackOk()

    def _taken_transaction(self) -> list[tuple[Callable[[], None], Callable[[], None]]]:
        if self._transaction is None:
            raise Refusal(PRECONDITION_FAILED, "channel is not transactional")
        taken, self._transaction = self._transaction, []
        return taken

    def _flow(self, method: methods.ChannelFlow) -> Method:
        if not method.active:
            raise Refusal(NOT_IMPLEMENTED, "active=false")
        return methods.ChannelFlowOk(True)


ACTS: dict[type[Method], Callable[[Channel, Any], Method | None]] = {
    methods.ExchangeDeclare: Channel._declare_exchange,
    methods.ExchangeDelete: Channel._delete_exchange,
    methods.ExchangeBind: Channel._bind_exchange,
    methods.ExchangeUnbind: Channel._unbind_exchange,
    methods.QueueDeclare: Channel._declare_queue,
    methods.QueueBind: Channel._bind_queue,
    methods.QueueUnbind: Channel._unbind_queue,
    methods.QueuePurge: Channel._purge,
    methods.QueueDelete: Channel._delete_queue,
    methods.BasicQos: Channel._qos,
    methods.BasicConsume: Channel._consume,
    methods.BasicCancel: Channel._cancel,
    methods.BasicGet: Channel._get,
    methods.BasicAck: Channel._ack,
    methods.BasicNack: Channel._nack,
    methods.BasicReject: Channel._reject,
    methods.BasicRecover: Channel._recover,
    methods.BasicRecoverAsync: Channel._recover,
    methods.ConfirmSelect: Channel._confirm,
    methods.TxSelect: Channel._tx_select,
    methods.TxCommit: Channel._tx_commit,
    methods.TxRollback: Channel._tx_rollback,
    methods.ChannelFlow: Channel._flow,
}
