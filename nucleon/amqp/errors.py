"""What goes wrong with RabbitMQ. Those that a client of the service may be told are problems; the others are faults of the program."""

import queue
from typing import ClassVar

from nucleon.errors import DeadlineExceeded, NucleonError, Unavailable


class AmqpError(NucleonError):
    """The root of every error of this room."""


class Away(AmqpError, Unavailable):
    """Something is amiss with RabbitMQ just now. The log reads what; the client of the service reads `told`, which names no host."""

    told: ClassVar[str] = "RabbitMQ is not available"

    def __init__(self, what: str, retry_after_seconds: int = 1) -> None:
        super().__init__(self.told, retry_after_seconds=retry_after_seconds)
        self.args = (what,)


class ConnectionLost(Away):
    """There is no connection to RabbitMQ, or it was lost before anything was done."""


class AccessRefused(ConnectionLost):
    """RabbitMQ refuses the user, its password or the virtual host: not tried again by itself."""


class ConnectionBlocked(Away, queue.Full):
    """RabbitMQ takes no messages just now (a memory or disk alarm, or it does not keep up): nothing was sent."""


class OutcomeUnknown(Away):
    """The message was sent and RabbitMQ did not say whether it has it. Sending it again may make a duplicate."""

    told = "RabbitMQ did not say whether it has the message"


class Rejected(Away, queue.Full):
    """RabbitMQ refused a message (basic.nack): the queue is full and says so, or it could not keep the message."""


class Unroutable(Away):
    """No queue took a message that had to reach one (basic.return). `code` and `text` are RabbitMQ's."""

    told = "nobody takes this message"

    def __init__(self, what: str, code: int = 0, text: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.text = text


class NoAnswer(Away):
    """RabbitMQ did not answer in time; the channel was closed, so that a late answer reaches nobody."""


class AnswerLate(AmqpError, DeadlineExceeded):
    """The deadline passed while RabbitMQ was asked; the channel was closed, so that a late answer reaches nobody."""

    def __init__(self, what: str) -> None:
        super().__init__("RabbitMQ did not answer before the deadline")
        self.args = (what,)


class ChannelClosed(AmqpError):
    """RabbitMQ closed a channel because of what was asked on it.

    code: 404 no such queue or exchange, 405 locked by another connection, 403 no permission, 406 does not fit what exists.
    method: the method it was asked by, as far as RabbitMQ says.
    """

    def __init__(self, what: str, code: int = 0, text: str = "", method: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.text = text
        self.method = method


class ConsumerCancelled(AmqpError):
    """RabbitMQ ended a consumer: its queue was deleted, or its leader has gone."""


class StaleDelivery(AmqpError):
    """A message came over a channel that has gone since: RabbitMQ has put it back, and delivers it again."""


class BadBody(AmqpError):
    """The body of a message is not what its type wants; the message is out of the way already."""
