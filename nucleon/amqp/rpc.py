"""Questions and answers over RabbitMQ, by direct reply-to (https://www.rabbitmq.com/docs/direct-reply-to)."""

from itertools import count
from typing import Any

import msgspec

from nucleon import green
from nucleon.amqp.channel import Channel
from nucleon.amqp.codec import Properties, encode_properties, methods
from nucleon.amqp.errors import AmqpError, AnswerLate, NoAnswer, OutcomeUnknown, Unroutable
from nucleon.amqp.link import Link
from nucleon.amqp.message import Message
from nucleon.green.waits import TIMED_OUT, Waits, waiter

REPLY_TO = "amq.rabbitmq.reply-to"


class Caller:
    """The asking side: one channel, on which answers come without acknowledgement; a late answer reaches nobody."""

    def __init__(self, link: Link, waits: Waits) -> None:
        self._link = link
        self._waits = waits
        self._numbers = count(1)
        self._waiting: dict[str, Any] = {}
        self._channel: Channel | None = None
        self._opening = green.Lock()

    def call(self, exchange: str, routing_key: str, body: bytes, properties: Properties, timeout: float) -> Message:
        """Publish a question and return the answer.

        Raises `Unroutable` (nobody listens there), `NoAnswer` after `timeout` seconds, `AnswerLate` at the deadline, `OutcomeUnknown`
        when the connection was lost in between.
        """
        channel = self._opened(timeout)
        number = str(next(self._numbers))
        asked = msgspec.structs.replace(properties, reply_to=REPLY_TO, correlation_id=number)
        turn = self._waiting[number] = waiter()
        try:
            channel.publish(exchange, routing_key, body, encode_properties(asked), is_mandatory=True, timeout=timeout)
            left = green.seconds_left(timeout)
            answer = self._waits.wait(turn, left)
        finally:
            self._waiting.pop(number, None)
        if answer is TIMED_OUT:
            if left is not None and left < timeout:
                raise AnswerLate(f"no answer from {exchange or 'queue'} {routing_key!r} before the deadline")
            raise NoAnswer(f"no answer from {exchange or 'queue'} {routing_key!r} within {timeout:g} s")
        if isinstance(answer, AmqpError):
            raise answer
        assert isinstance(answer, Message)
        return answer

    def _opened(self, timeout: float) -> Channel:
        if not self._opening.acquire(timeout):
            raise NoAnswer(f"no channel to ask on within {timeout:g} s")
        try:
            channel = self._channel
            if channel is None or channel.error is not None:
                channel = self._link.get(timeout).channel(timeout)
                channel.on_return = self._returned
                channel.consume(REPLY_TO, self, no_ack=True)
                self._channel = channel
            return channel
        finally:
            self._opening.release()

    def take(self, message: Message) -> None:
        """An answer came; runs in the loop."""
        message.is_settled = True
        turn = self._waiting.pop(message.properties.correlation_id or "", None)
        if turn is not None:
            self._waits.wake(turn, message)

    def _returned(self, method: methods.BasicReturn, properties: Properties, _body: bytes) -> None:
        turn = self._waiting.pop(properties.correlation_id or "", None)
        if turn is not None:
            what = f"nobody takes questions to exchange {method.exchange!r} with key {method.routing_key!r}: {method.code} {method.text}"
            self._waits.wake(turn, Unroutable(what, method.code, method.text))

    def cancelled(self, error: AmqpError) -> None:
        """RabbitMQ ended the consumer of answers; runs in the loop."""
        self.ended(error)

    def ended(self, error: AmqpError) -> None:
        """The channel died; runs in the loop. Who waits cannot know whether the question arrived."""
        waiting, self._waiting = self._waiting, {}
        for turn in waiting.values():
            self._waits.wake(turn, OutcomeUnknown(f"{error}; the question may or may not have been answered"))
