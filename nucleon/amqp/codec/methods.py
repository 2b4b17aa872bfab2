"""Every method of AMQP 0-9-1 and of RabbitMQ's extensions, as values.

Source: amqp-rabbitmq-0.9.1 (https://www.rabbitmq.com/amqp-0-9-1-reference): class and method numbers, arguments in the order of the wire.
Tables among the arguments are read-only for the one who was sent them; an absent argument is zero, empty or false.
"""

from nucleon.amqp.codec.method import Method, numbered
from nucleon.amqp.codec.wire import Bit, Long, LongLong, LongString, Octet, Short, ShortString, Table


@numbered(10, 10)
class ConnectionStart(Method, frozen=True):
    version_major: Octet = 0
    version_minor: Octet = 9
    server_properties: Table = {}
    mechanisms: LongString = b"PLAIN AMQPLAIN"
    locales: LongString = b"en_US"


@numbered(10, 11)
class ConnectionStartOk(Method, frozen=True):
    client_properties: Table = {}
    mechanism: ShortString = "PLAIN"
    response: LongString = b""
    locale: ShortString = "en_US"


@numbered(10, 20)
class ConnectionSecure(Method, frozen=True):
    challenge: LongString = b""


@numbered(10, 21)
class ConnectionSecureOk(Method, frozen=True):
    response: LongString = b""


@numbered(10, 30)
class ConnectionTune(Method, frozen=True):
    channel_max: Short = 0
    frame_max: Long = 0
    heartbeat: Short = 0


@numbered(10, 31)
class ConnectionTuneOk(Method, frozen=True):
    channel_max: Short = 0
    frame_max: Long = 0
    heartbeat: Short = 0


@numbered(10, 40)
class ConnectionOpen(Method, frozen=True):
    vhost: ShortString = "/"
    reserved_1: ShortString = ""
    reserved_2: Bit = False


@numbered(10, 41)
class ConnectionOpenOk(Method, frozen=True):
    reserved_1: ShortString = ""


@numbered(10, 50)
class ConnectionClose(Method, frozen=True):
    code: Short = 200
    text: ShortString = ""
    method_class: Short = 0
    method_id: Short = 0


@numbered(10, 51)
class ConnectionCloseOk(Method, frozen=True):
    pass


@numbered(10, 60)
class ConnectionBlocked(Method, frozen=True):
    reason: ShortString = ""


@numbered(10, 61)
class ConnectionUnblocked(Method, frozen=True):
    pass


@numbered(10, 70)
class ConnectionUpdateSecret(Method, frozen=True):
    secret: LongString = b""
    reason: ShortString = ""


@numbered(10, 71)
class ConnectionUpdateSecretOk(Method, frozen=True):
    pass


@numbered(20, 10)
class ChannelOpen(Method, frozen=True):
    reserved_1: ShortString = ""


@numbered(20, 11)
class ChannelOpenOk(Method, frozen=True):
    reserved_1: LongString = b""


@numbered(20, 20)
class ChannelFlow(Method, frozen=True):
    active: Bit = False


@numbered(20, 21)
class ChannelFlowOk(Method, frozen=True):
    active: Bit = False


@numbered(20, 40)
class ChannelClose(Method, frozen=True):
    code: Short = 200
    text: ShortString = ""
    method_class: Short = 0
    method_id: Short = 0


@numbered(20, 41)
class ChannelCloseOk(Method, frozen=True):
    pass


@numbered(40, 10)
class ExchangeDeclare(Method, frozen=True):
    reserved_1: Short = 0
    exchange: ShortString = ""
    kind: ShortString = "direct"
    passive: Bit = False
    durable: Bit = False
    auto_delete: Bit = False
    internal: Bit = False
    nowait: Bit = False
    arguments: Table = {}


@numbered(40, 11)
class ExchangeDeclareOk(Method, frozen=True):
    pass


@numbered(40, 20)
class ExchangeDelete(Method, frozen=True):
    reserved_1: Short = 0
    exchange: ShortString = ""
    if_unused: Bit = False
    nowait: Bit = False


@numbered(40, 21)
class ExchangeDeleteOk(Method, frozen=True):
    pass


@numbered(40, 30)
class ExchangeBind(Method, frozen=True):
    reserved_1: Short = 0
    destination: ShortString = ""
    source: ShortString = ""
    routing_key: ShortString = ""
    nowait: Bit = False
    arguments: Table = {}


@numbered(40, 31)
class ExchangeBindOk(Method, frozen=True):
    pass


@numbered(40, 40)
class ExchangeUnbind(Method, frozen=True):
    reserved_1: Short = 0
    destination: ShortString = ""
    source: ShortString = ""
    routing_key: ShortString = ""
    nowait: Bit = False
    arguments: Table = {}


@numbered(40, 51)
class ExchangeUnbindOk(Method, frozen=True):
    pass


@numbered(50, 10)
class QueueDeclare(Method, frozen=True):
    reserved_1: Short = 0
    queue: ShortString = ""
    passive: Bit = False
    durable: Bit = False
    exclusive: Bit = False
    auto_delete: Bit = False
    nowait: Bit = False
    arguments: Table = {}


@numbered(50, 11)
class QueueDeclareOk(Method, frozen=True):
    queue: ShortString = ""
    message_count: Long = 0
    consumer_count: Long = 0


@numbered(50, 20)
class QueueBind(Method, frozen=True):
    reserved_1: Short = 0
    queue: ShortString = ""
    exchange: ShortString = ""
    routing_key: ShortString = ""
    nowait: Bit = False
    arguments: Table = {}


@numbered(50, 21)
class QueueBindOk(Method, frozen=True):
    pass


@numbered(50, 30)
class QueuePurge(Method, frozen=True):
    reserved_1: Short = 0
    queue: ShortString = ""
    nowait: Bit = False


@numbered(50, 31)
class QueuePurgeOk(Method, frozen=True):
    message_count: Long = 0


@numbered(50, 40)
class QueueDelete(Method, frozen=True):
    reserved_1: Short = 0
    queue: ShortString = ""
    if_unused: Bit = False
    if_empty: Bit = False
    nowait: Bit = False


@numbered(50, 41)
class QueueDeleteOk(Method, frozen=True):
    message_count: Long = 0


@numbered(50, 50)
class QueueUnbind(Method, frozen=True):
    reserved_1: Short = 0
    queue: ShortString = ""
    exchange: ShortString = ""
    routing_key: ShortString = ""
    arguments: Table = {}


@numbered(50, 51)
class QueueUnbindOk(Method, frozen=True):
    pass


@numbered(60, 10)
class BasicQos(Method, frozen=True):
    prefetch_size: Long = 0
    prefetch_count: Short = 0
    shared: Bit = False


@numbered(60, 11)
class BasicQosOk(Method, frozen=True):
    pass


@numbered(60, 20)
class BasicConsume(Method, frozen=True):
    reserved_1: Short = 0
    queue: ShortString = ""
    consumer_tag: ShortString = ""
    no_local: Bit = False
    no_ack: Bit = False
    exclusive: Bit = False
    nowait: Bit = False
    arguments: Table = {}


@numbered(60, 21)
class BasicConsumeOk(Method, frozen=True):
    consumer_tag: ShortString = ""


@numbered(60, 30)
class BasicCancel(Method, frozen=True):
    consumer_tag: ShortString = ""
    nowait: Bit = False


@numbered(60, 31)
class BasicCancelOk(Method, frozen=True):
    consumer_tag: ShortString = ""


@numbered(60, 40)
class BasicPublish(Method, frozen=True):
    reserved_1: Short = 0
    exchange: ShortString = ""
    routing_key: ShortString = ""
    mandatory: Bit = False
    immediate: Bit = False


@numbered(60, 50)
class BasicReturn(Method, frozen=True):
    code: Short = 0
    text: ShortString = ""
    exchange: ShortString = ""
    routing_key: ShortString = ""


@numbered(60, 60)
class BasicDeliver(Method, frozen=True):
    consumer_tag: ShortString = ""
    delivery_tag: LongLong = 0
    redelivered: Bit = False
    exchange: ShortString = ""
    routing_key: ShortString = ""


@numbered(60, 70)
class BasicGet(Method, frozen=True):
    reserved_1: Short = 0
    queue: ShortString = ""
    no_ack: Bit = False


@numbered(60, 71)
class BasicGetOk(Method, frozen=True):
    delivery_tag: LongLong = 0
    redelivered: Bit = False
    exchange: ShortString = ""
    routing_key: ShortString = ""
    message_count: Long = 0


@numbered(60, 72)
class BasicGetEmpty(Method, frozen=True):
    reserved_1: ShortString = ""


@numbered(60, 80)
class BasicAck(Method, frozen=True):
    delivery_tag: LongLong = 0
    multiple: Bit = False


@numbered(60, 90)
class BasicReject(Method, frozen=True):
    delivery_tag: LongLong = 0
    requeue: Bit = False


@numbered(60, 100)
class BasicRecoverAsync(Method, frozen=True):
    requeue: Bit = False


@numbered(60, 110)
class BasicRecover(Method, frozen=True):
    requeue: Bit = False


@numbered(60, 111)
class BasicRecoverOk(Method, frozen=True):
    pass


@numbered(60, 120)
class BasicNack(Method, frozen=True):
    delivery_tag: LongLong = 0
    multiple: Bit = False
    requeue: Bit = False


@numbered(85, 10)
class ConfirmSelect(Method, frozen=True):
    nowait: Bit = False


@numbered(85, 11)
class ConfirmSelectOk(Method, frozen=True):
    pass


@numbered(90, 10)
class TxSelect(Method, frozen=True):
    pass


@numbered(90, 11)
class TxSelectOk(Method, frozen=True):
    pass


@numbered(90, 20)
class TxCommit(Method, frozen=True):
    pass


@numbered(90, 21)
class TxCommitOk(Method, frozen=True):
    pass


@numbered(90, 30)
class TxRollback(Method, frozen=True):
    pass


@numbered(90, 31)
class TxRollbackOk(Method, frozen=True):
    pass


REPLIES: dict[type[Method], tuple[type[Method], ...]] = {
    ConnectionUpdateSecret: (ConnectionUpdateSecretOk,),
    ConnectionClose: (ConnectionCloseOk,),
    ChannelOpen: (ChannelOpenOk,),
    ChannelFlow: (ChannelFlowOk,),
    ChannelClose: (ChannelCloseOk,),
    ExchangeDeclare: (ExchangeDeclareOk,),
    ExchangeDelete: (ExchangeDeleteOk,),
    ExchangeBind: (ExchangeBindOk,),
    ExchangeUnbind: (ExchangeUnbindOk,),
    QueueDeclare: (QueueDeclareOk,),
    QueueBind: (QueueBindOk,),
    QueuePurge: (QueuePurgeOk,),
    QueueDelete: (QueueDeleteOk,),
    QueueUnbind: (QueueUnbindOk,),
    BasicQos: (BasicQosOk,),
    BasicConsume: (BasicConsumeOk,),
    BasicCancel: (BasicCancelOk,),
    BasicGet: (BasicGetOk, BasicGetEmpty),
    BasicRecover: (BasicRecoverOk,),
    ConfirmSelect: (ConfirmSelectOk,),
    TxSelect: (TxSelectOk,),
    TxCommit: (TxCommitOk,),
    TxRollback: (TxRollbackOk,),
}
"""What answers a method that one waits for (unless it says `nowait`)."""

CARRIES_CONTENT: frozenset[type[Method]] = frozenset([BasicPublish, BasicReturn, BasicDeliver, BasicGetOk])
"""Methods that a content header and a body follow."""
