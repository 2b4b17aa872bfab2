"""What RabbitMQ has said about each publish of a channel (https://www.rabbitmq.com/confirms)."""

from collections import deque
from copy import copy
from typing import Any

from nucleon import green
from nucleon.amqp.errors import AmqpError, AnswerLate, ChannelClosed, OutcomeUnknown, Rejected, Unroutable
from nucleon.green.waits import TIMED_OUT, Waits, waiter

WAITING, TAKEN, FAILED = 0, 1, 2
NOT_PUBLISHED = {403, 404}  # no permission, no such exchange: RabbitMQ has said what is wrong


class Confirm:
    """The fate of one message: taken, refused, or not known yet."""

    __slots__ = ("_state", "_waiters", "_waits", "body", "error", "exchange", "is_mandatory", "routing_key")

    def __init__(self, waits: Waits, exchange: str, routing_key: str, body: bytes, is_mandatory: bool) -> None:
        self._waits = waits
        self._waiters: Any = None
        self._state = WAITING
        self.error: AmqpError | None = None
        self.exchange = exchange
        self.routing_key = routing_key
        self.body = body
        self.is_mandatory = is_mandatory

    @property
    def is_done(self) -> bool:
        """Tell whether RabbitMQ has said something, or never will."""
        return self._state != WAITING

    def wait(self, timeout: float | None = None) -> None:
        """Return when RabbitMQ has taken the message.

        Raises `Unroutable`, `Rejected`, `OutcomeUnknown` (the connection was lost, or `timeout` seconds are over) and
        `AnswerLate`, a `DeadlineExceeded`, at the deadline.
        """
        if self._state == WAITING:
            left = green.seconds_left(timeout)
            turn = waiter()
            if self._waiters is None:
                self._waiters = turn
            else:  # rare: several greenlets wait for one message
                self._waiters = [*self._waiters, turn] if isinstance(self._waiters, list) else [self._waiters, turn]
            if self._waits.wait(turn, left) is TIMED_OUT and self._state == WAITING:
                place = f"{self.exchange or 'the queue'} {self.routing_key}"
                if timeout is None or (left is not None and left < timeout):
                    raise AnswerLate(f"no confirm for the message to {place} before the deadline: RabbitMQ may have it")
                raise OutcomeUnknown(f"no confirm for the message to {place} within {timeout:.3g} s: RabbitMQ may have it")
        if self.error is not None:
            raise copy(self.error)

    def settle(self, error: AmqpError | None) -> None:
        """Say how it ended and wake who waits; runs in the loop."""
        self._state = TAKEN if error is None and self.error is None else FAILED
        if self.error is None:
            self.error = error
        waiters, self._waiters = self._waiters, None
        if waiters is None:
            return
        for turn in waiters if isinstance(waiters, list) else (waiters,):
            self._waits.wake(turn)

    def __repr__(self) -> str:
        state = ("waiting", "taken", f"failed: {self.error}")[self._state]
        return f"<Confirm {self.exchange!r} {self.routing_key!r} {state}>"


class Confirms:
    """The publishes of one channel that RabbitMQ has not confirmed yet, by delivery tag.

    A confirm is matched by its tag alone, so that a killed publisher's confirm never reaches the next one.
    """

    __slots__ = ("_lowest", "_room", "_waits", "last", "open", "window")

    def __init__(self, waits: Waits, window: int) -> None:
        self._waits = waits
        self._room: deque[Any] = deque()
        self._lowest = 1
        self.window = window
        self.last = 0
        self.open: dict[int, Confirm] = {}

    def is_full(self) -> bool:
        """Tell whether the window is used up."""
        return len(self.open) >= self.window

    def wait_for_room(self, seconds: float | None) -> bool:
        """Wait until some publishes were confirmed. False: not within `seconds`."""
        turn = waiter()
        self._room.append(turn)
        try:
            return self._waits.wait(turn, seconds) is not TIMED_OUT
        finally:
            if turn in self._room:
                self._room.remove(turn)
            elif not self.is_full():
                self._wake_publishers(1)  # killed or late after it was woken: the next in line has the place

    def enter(self, confirm: Confirm) -> None:
        """Give a publish the next tag; the caller sends it in the same step."""
        self.last += 1
        self.open[self.last] = confirm

    def settle(self, tag: int, is_multiple: bool, is_taken: bool) -> None:
        """Handle basic.ack and basic.nack."""
        if is_multiple:
            lowest, self._lowest = self._lowest, max(self._lowest, tag + 1)
            for one in range(lowest, tag + 1):
                confirm = self.open.pop(one, None)
                if confirm is not None:
                    confirm.settle(None if is_taken else _rejected(confirm))
        else:
            confirm = self.open.pop(tag, None)
            if tag == self._lowest:
                self._lowest = tag + 1
            if confirm is not None:
                confirm.settle(None if is_taken else _rejected(confirm))
        if self._room:
            self._wake_publishers(self.window - len(self.open))

    def returned(self, code: int, text: str, exchange: str, routing_key: str, body: bytes) -> bool:
        """Mark the message that basic.return gave back; its ack follows. False: nobody here sent it.

        The method carries no tag. It is the oldest open message with the same exchange, key and body; of equal ones it does not
        matter which (docs/decisions/0010).
        """
        for confirm in self.open.values():
            if (
                confirm.is_mandatory
                and confirm.error is None
                and confirm.routing_key == routing_key
                and confirm.exchange == exchange
                and confirm.body == body
            ):
                where = f"exchange {exchange!r} with key {routing_key!r}" if exchange else f"queue {routing_key!r}"
                confirm.error = Unroutable(f"no queue took the message to {where}: {code} {text}", code, text)
                return True
        return False

    def fail(self, error: AmqpError) -> None:
        """The channel has gone: nothing more will be said about what is open."""
        unsaid, self.open = self.open, {}
        for confirm in unsaid.values():
            if isinstance(error, ChannelClosed) and error.code in NOT_PUBLISHED:
                confirm.settle(error)
                continue
            place = f"exchange {confirm.exchange!r} with key" if confirm.exchange else "queue"
            confirm.settle(OutcomeUnknown(f"{error}; the message to {place} {confirm.routing_key!r} may or may not be there"))
        self._wake_publishers(len(self._room))

    def _wake_publishers(self, count: int) -> None:
        for _ in range(min(count, len(self._room))):
            self._waits.wake(self._room.popleft())


def _rejected(confirm: Confirm) -> Rejected:
    where = f"exchange {confirm.exchange!r}" if confirm.exchange else f"queue {confirm.routing_key!r}"
    return Rejected(f"RabbitMQ refused the message to {where}: a queue is full, or it could not keep the message")
