"""RabbitMQ (AMQP 0-9-1) with plain calls on greenlets: remote queues used like local ones. See docs/amqp.md."""

from nucleon.amqp.channel import Channel
from nucleon.amqp.client import Amqp
from nucleon.amqp.codec import MalformedFrame, Properties
from nucleon.amqp.confirms import Confirm
from nucleon.amqp.consumer import Consumer
from nucleon.amqp.errors import (
    AccessRefused,
    AmqpError,
    AnswerLate,
    ChannelClosed,
    ConnectionBlocked,
    ConnectionLost,
    ConsumerCancelled,
    NoAnswer,
    OutcomeUnknown,
    Rejected,
    StaleDelivery,
    Unroutable,
)
from nucleon.amqp.exchange import Exchange
from nucleon.amqp.message import Message
from nucleon.amqp.queue import Queue
from nucleon.amqp.settings import Settings
from nucleon.amqp.transaction import Transaction
from nucleon.amqp.typed import TypedMessage, TypedQueue

__all__ = [
    "AccessRefused", "Amqp", "AmqpError", "AnswerLate", "Channel", "ChannelClosed", "Confirm", "ConnectionBlocked", "ConnectionLost",
    "Consumer", "ConsumerCancelled", "Exchange", "MalformedFrame", "Message", "NoAnswer", "OutcomeUnknown", "Properties", "Queue",
    "Rejected", "Settings", "StaleDelivery", "Transaction", "TypedMessage", "TypedQueue", "Unroutable",
]  # fmt: skip
