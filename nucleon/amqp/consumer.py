"""Messages of one queue, taken one by one in the greenlet that wants them; alive across lost connections."""

import queue
from collections import deque
from collections.abc import Iterator
from copy import copy
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

import gevent

from nucleon import green
from nucleon.amqp.channel import CONTENT_TOO_LARGE, Channel
from nucleon.amqp.codec import methods
from nucleon.amqp.connection import Connection
from nucleon.amqp.errors import AmqpError, ChannelClosed, ConsumerCancelled
from nucleon.amqp.message import Message
from nucleon.errors import DeadlineExceeded
from nucleon.green.waits import TIMED_OUT, waiter

if TYPE_CHECKING:
    from nucleon.amqp.link import Link
    from nucleon.amqp.queue import Queue

OFFSET = "x-stream-offset"
SETTLE_SECONDS = 0.2
"""How long a channel outlives its last acknowledgement of a quorum queue: RabbitMQ collects them behind the first 32 and forgets, when the
channel closes, what it has collected (3.10, seen: 67 of 100 messages that were acknowledged came again)."""

FAIR_COUNT = 100  # messages taken in a row without waiting, and
FAIR_SECONDS = 0.005  # the time that takes; then the loop has a turn: others go on, acknowledgements go out
TURN_SECONDS = 1e-6  # not 0, with which gevent looks at no socket and no timer, but lets other ready greenlets run
START_SECONDS = 1.0  # patience for opening a consumer, even when a `get` has less for its message


class Consumer:
    """What RabbitMQ pushes from one queue: at most `prefetch` messages are held or unacknowledged, which is the back-pressure.

    A context manager and an iterator. Any number of greenlets may `get` from it. Leaving stops the consumer and gives back what
    nobody took; messages that were taken can still be acknowledged. After a lost connection it goes on by itself: what was held is
    dropped (RabbitMQ delivers it again, `redelivered` is set); messages taken before are stale.
    """

    def __init__(
        self, source: "Queue", link: "Link", *, prefetch: int, no_ack: bool, exclusive: bool, arguments: dict[str, Any], limit_bytes: int
    ) -> None:
        self.queue = source
        self.prefetch = prefetch
        self.delivered = self.stale = self.unsettled = 0
        self.error: AmqpError | None = None
        self._link = link
        self._no_ack = no_ack
        self._exclusive = exclusive
        self._arguments = arguments
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._in_a_row = 0
        self._turn_ends = 0.0
        self._inbox: deque[Message] = deque()
        self._turns: deque[Any] = deque()
        self._waits = source.client.waits
        self._channel: Channel | None = None
        self._tag = ""
        self._opening = green.Lock()
        self._is_closed = self._is_resuming = False
        self._is_slow_to_settle = source.is_slow_to_settle
        self._notice: AmqpError | None = None  # RabbitMQ's cancel, until it is clear whether it is final
        self._paused: Connection | None = None

    def start(self, timeout: float | None = None) -> "Consumer":
        """Begin to consume, when that has not happened yet. Raises `ConnectionLost`, `ChannelClosed` (no such queue), ..."""
        with self._opening:
            if self._channel is None and not self._is_closed and self.error is None:
                self.queue.prepare(timeout)
                connection = self._link.get(timeout)
                self.resume(connection)
                self._link.dependents.add(self)
                self.queue.consumer_began(self)
        return self

    def get(self, timeout: float | None = None) -> Message:
        """Take the next message, waiting up to `timeout` seconds (None: until the deadline); the first call may take a second more.

        Raises the standard library's `queue.Empty` when none came, `ConsumerCancelled` when the queue was deleted or the consumer
        closed, `DeadlineExceeded` at the deadline.
        """
        if not self._inbox:
            return self._waited_for(timeout)
        self._in_a_row += 1
        if self._in_a_row > FAIR_COUNT or monotonic() > self._turn_ends:
            gevent.sleep(TURN_SECONDS)
            self._begin_turn()
            if not self._inbox:  # somebody else was quicker
                return self._waited_for(timeout)
        return self._handed_out()

    def get_nowait(self) -> Message:
        """Take a message that is here already, or raise `queue.Empty`."""
        if self._inbox:
            return self._handed_out()
        raise queue.Empty

    def _handed_out(self) -> Message:
        message = self._inbox.popleft()
        if self._no_ack:
            self._held_bytes -= len(message.body)
            if self._paused is not None and self._held_bytes < self._limit_bytes // 2:
                self._paused.transport.resume()
                self._paused = None
        else:
            self.unsettled += 1
        if OFFSET in self._arguments:
            offset = message.headers.get(OFFSET)
            if isinstance(offset, int):
                self._arguments = {**self._arguments, OFFSET: offset + 1}
        return message

    def _begin_turn(self) -> None:
        self._in_a_row = 0
        self._turn_ends = monotonic() + FAIR_SECONDS

    def _waited_for(self, timeout: float | None) -> Message:
        until = None if timeout is None else monotonic() + timeout
        if self._channel is None and self.error is None and not self._is_closed:
            self.start(None if timeout is None else max(timeout, START_SECONDS))
        while not self._inbox:
            if self.error is not None:
                raise copy(self.error)
            if self._is_closed:
                raise ConsumerCancelled("the consumer was closed")
            patience = None if until is None else max(until - monotonic(), 0.0)
            left = green.seconds_left(patience)
            if not self._wait_turn(left) and not self._inbox:
                if patience is not None and (left is None or left >= patience):
                    raise queue.Empty
                raise DeadlineExceeded("no message came before the deadline")
        self._begin_turn()
        return self._handed_out()

    def _wait_turn(self, seconds: float | None) -> bool:
        """Wait until something changes. A killed greenlet passes its turn on, so that no message is left lying."""
        turn = waiter()
        self._turns.append(turn)
        try:
            return self._waits.wait(turn, seconds) is not TIMED_OUT
        except BaseException:
            if turn not in self._turns and self._inbox:
                self._wake(1)
            raise
        finally:
            if turn in self._turns:
                self._turns.remove(turn)

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._turns))):
            self._waits.wake(self._turns.popleft())

    def __iter__(self) -> Iterator[Message]:
        """Give messages until the consumer is closed. Raises what `get` raises."""
        while True:
            try:
                yield self.get()
            except ConsumerCancelled:
                if self._is_closed:
                    return
                raise

    def __enter__(self) -> "Consumer":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop: cancel, give back what nobody took. What was taken may still be acknowledged; then the channel is closed too."""
        if self._is_closed:
            return
        self.end()
        channel = self._channel
        try:
            if channel is not None and channel.error is None:
                channel.cancel(self._tag)
        except AmqpError:
            pass  # the channel has gone, and with it everything that was delivered on it
        finally:
            self._give_back()

    def end(self) -> None:
        """Stop without a word to RabbitMQ, because the connection is about to be closed; who waits hears of it."""
        self._is_closed = True
        self._link.dependents.discard(self)
        self._wake(len(self._turns))
        self.queue.consumer_ended(self)

    def _give_back(self) -> None:
        inbox, self._inbox = self._inbox, deque()
        if not self._no_ack:
            self.unsettled += len(inbox)  # `settled` counts them down
        for message in inbox:
            message.nack(requeue=True)
        if self._paused is not None:
            self._paused.transport.resume()
        if self.unsettled == 0:
            self._leave("the consumer was closed")

    def resume(self, connection: Connection) -> None:
        """Consume on this connection; called at the start and by the supervisor. Raises `AmqpError`."""
        if self._is_closed:
            return
        channel = connection.channel()
        if self.queue.declaration.exclusive:  # it went with the connection, or is still locked by it
            for method in self.queue.client.topology.of_queue(self.queue.name):
                channel.call(method)
        if not self._no_ack:
            channel.call(methods.BasicQos(0, self.prefetch))
            channel.gather_acks()
        before, self._channel = self._channel, channel
        self._is_resuming = True
        try:
            self._tag = channel.consume(self.queue.name, self, no_ack=self._no_ack, exclusive=self._exclusive, arguments=self._arguments)
            channel.check()  # it may have died right behind the answer
        except BaseException:
            channel.abandon("consume failed")
            self._channel = before
            raise
        finally:
            self._is_resuming = False
        self._notice = None

    def fail(self, error: AmqpError) -> None:
        """End for good: who waits hears why."""
        self.error = self._notice if self._notice is not None and isinstance(error, ChannelClosed) else error
        self._link.dependents.discard(self)
        self._wake(len(self._turns))

    def take(self, message: Message) -> None:
        """A message came; runs in the loop."""
        message.source = self
        self.delivered += 1
        self._inbox.append(message)
        if self._no_ack:
            message.is_settled = True
            self._held_bytes += len(message.body)
            if self._held_bytes > self._limit_bytes and self._paused is None and self._channel is not None:
                self._paused = self._channel.connection
                self._paused.transport.pause()
        if self._turns:
            self._waits.wake(self._turns.popleft())

    def cancelled(self, error: AmqpError) -> None:
        """RabbitMQ cancelled the consumer; runs in the loop. It consumes again when the queue is still there."""
        self._notice = error
        if self._channel is not None:
            self._channel.abandon("RabbitMQ cancelled its consumer")
        self._forget_held()
        if not self._is_closed:
            self._link.repair(self)

    def ended(self, error: AmqpError) -> None:
        """The channel died; runs in the loop. With the connection the supervisor goes on by itself, else it is asked to."""
        self._forget_held()
        if self._is_closed or self._is_resuming or self not in self._link.dependents:
            return
        if isinstance(error, ChannelClosed):
            if error.code == CONTENT_TOO_LARGE:
                self.fail(error)
            else:
                self._link.repair(self)

    def _forget_held(self) -> None:
        """What was delivered and not taken is stale; without acknowledgement it is ours alone and stays."""
        if not self._no_ack:
            self._inbox.clear()
        self._paused = None

    def settled(self, _message: Message, sent: bool) -> None:
        """A message was acknowledged or given back."""
        self.unsettled -= 1
        if not sent:
            self.stale += 1
        if self._is_slow_to_settle:
            self.queue.client.settled_at = monotonic()
        if self._is_closed and self.unsettled == 0:
            self._leave("the last message of a closed consumer is settled")

    def _leave(self, why: str) -> None:
        """Close the channel, of a quorum queue a moment later: see `SETTLE_SECONDS`."""
        channel = self._channel
        if channel is None:
            return
        if self._is_slow_to_settle:
            gevent.spawn_later(SETTLE_SECONDS, channel.abandon, why)
        else:
            channel.abandon(why)

    @property
    def is_over(self) -> bool:
        """Tell whether no message will ever come again."""
        return self._is_closed or self.error is not None

    def is_busy(self) -> bool:
        """Tell whether messages are held here or taken and not settled."""
        return bool(self._inbox) or self.unsettled > 0

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else f"failed: {self.error}" if self.error is not None else "consuming"
        if state == "consuming" and (self._channel is None or self._channel.error is not None):
            state = "not consuming yet" if self._channel is None else "recovering"
        return f"<Consumer of {self.queue.name!r} {state}: {len(self._inbox)} held, {self.unsettled} unsettled, {self.delivered} delivered>"
