"""The consumers of an app at work: handlers called, failures tried again later or given up, everything drained at the end."""

import logging
from collections.abc import Mapping
from contextvars import copy_context
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from nucleon import hooks
from nucleon.app.consumption import Compiled, ConsumerFact, Consumption, compiled_from, fact_of, request_from
from nucleon.app.failures import (
    Queues,
    failures_of,
    give_up,
    is_hopeless,
    put_off,
    queues_of,
    reason_of,
    refuse_what_was_lost_too_often,
)
from nucleon.binding import Known
from nucleon.errors import Problem, SetupError
from nucleon.green import deadline_at

if TYPE_CHECKING:
    from nucleon.amqp import Consumer, Message
    from nucleon.green import Event, Greenlet

log = logging.getLogger("nucleon.app")
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class Consumers:
    """All consumers of an app. Nothing runs before `start`, which `nucleon serve` and `nucleon worker` call in each worker."""

    def __init__(self) -> None:
        self.registered: list[Consumption] = []
        self._compiled: list[Compiled] | None = None
        self._running: list[_Crew] = []
        self._maker: Greenlet[..., Any] | None = None

    def __len__(self) -> int:
        return len(self.registered)

    def add(self, one: Consumption) -> None:
        """Register a consumer."""
        self.registered.append(one)
        self._compiled = None

    def check(self, known: Known, resources: Mapping[str, Any]) -> None:
        """Compile every consumer. Raises `SetupError` with all faults, one a line."""
        faults: list[str] = []
        compiled: list[Compiled] = []
        for one in self.registered:
            try:
                compiled.append(compiled_from(one, known, resources))
            except SetupError as error:
                faults.append(str(error))
        if faults:
            raise SetupError("\n".join(dict.fromkeys(faults)))
        self._compiled = compiled

    def facts(self) -> list[ConsumerFact]:
        """Return what the command line shows of each."""
        return [fact_of(one) for one in self.registered]

    def start(self) -> int:
        """Begin to consume, after the app has started; return how many consumers run. Those whose broker is not configured do not."""
        assert self._compiled is not None, "the app is started first"
        if not self._running:
            self._running = [_Crew(one) for one in self._compiled if is_configured(one.resource)]
        return len(self._running)

    def declare(self) -> None:
        """Make the queues of the consumers, with what they are bound to, before any of them runs. Raises `AmqpError`."""
        assert self._compiled is not None, "the app is started first"
        for one in self._compiled:
            if is_configured(one.resource):
                queues_of(one).declare()

    def make_queues(self, seconds: float) -> None:
        """As `declare`, for up to `seconds`; a broker that is away, or says no, is asked again with growing pauses until it is done."""
        from nucleon.green import spawn

        self._maker = spawn(self._declare_at_last)
        self._maker.join(seconds)

    def _declare_at_last(self) -> None:
        from nucleon.amqp import AmqpError
        from nucleon.green import sleep

        left = [one for one in self._compiled or () if is_configured(one.resource)]
        pause = FIRST_PAUSE_SECONDS
        while left:
            for one in list(left):
                try:
                    queues_of(one).declare()
                    left.remove(one)
                except (AmqpError, SetupError) as error:
                    log.error("queue %s is not made: %s; next attempt in %g s", one.consumption.queue, error, pause)
            if left:
                sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def are_ready(self) -> bool:
        """Tell whether every consumer that runs has its queue."""
        return all(crew.is_ready() for crew in self._running)

    def drain(self, seconds: float) -> int:
        """Take nothing more, give back what nobody works on, let the rest finish; return how many had to be cancelled after `seconds`.

        A cancelled message goes back to its queue.
        """
        if self._maker is not None:
            self._maker.kill()
        crews, self._running = self._running, []
        ends = monotonic() + seconds
        for crew in crews:
            crew.stop_taking()
        return sum(crew.finish(max(0.0, ends - monotonic())) for crew in crews)


def is_configured(resource: Any) -> bool:
    """Tell whether a resource has been told where its server is."""
    settings = getattr(resource, "settings", None)
    return getattr(settings, "url", "") is not None and getattr(settings, "dsn", "") is not None


class _Crew:
    """The greenlets of one consumer: one that keeps it consuming, and `concurrency` that handle messages."""

    def __init__(self, compiled: Compiled) -> None:
        from nucleon.green import Event, spawn

        self._compiled = compiled
        self._consumer: Consumer | None = None
        self._stopping: Event = Event()
        self._handlers: list[Greenlet[..., Any]] = []
        self._keeper: Greenlet[..., Any] = spawn(self._keep_consuming)

    def is_ready(self) -> bool:
        consumer = self._consumer
        return consumer is not None and consumer.error is None

    def stop_taking(self) -> None:
        self._stopping.set()
        self._keeper.kill(block=False)

    def finish(self, seconds: float) -> int:
        from gevent import joinall, killall  # a group is waited for at once; green has no name for that

        joinall([self._keeper, *self._handlers], timeout=seconds)
        late = [one for one in self._handlers if not one.dead]
        killall([self._keeper, *late])
        return len(late)

    def _keep_consuming(self) -> None:
        """Consume until stopped: a queue that was deleted or cannot be declared is tried again, with growing pauses."""
        from nucleon.amqp import AmqpError

        pause, name = FIRST_PAUSE_SECONDS, self._compiled.consumption.queue
        while not self._stopping.is_set():
            try:
                self._consume_once()
                pause = FIRST_PAUSE_SECONDS
            except Exception as error:
                known = isinstance(error, AmqpError | SetupError)
                log.error("queue %s is not consumed: %s; next attempt in %g s", name, error, pause, exc_info=None if known else error)
                self._stopping.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _consume_once(self) -> None:
        from gevent import joinall

        from nucleon.green import spawn

        consumption = self._compiled.consumption
        queues = queues_of(self._compiled)
        queues.declare()
        with queues.work.consumer(consumption.prefetch) as consumer:
            self._consumer = consumer
            self._handlers = [spawn(self._handle_all, consumer, queues) for _ in range(consumption.concurrency)]
            joinall(self._handlers)
            if consumer.error is not None:
                raise consumer.error

    def _handle_all(self, consumer: "Consumer", queues: Queues) -> None:
        from nucleon.amqp import AmqpError

        while not self._stopping.is_set():
            try:
                message = consumer.get()
            except AmqpError:  # closed, or the queue was deleted: the keeper knows
                return
            try:
                copy_context().run(handle, self._compiled, queues, message, self._stopping)
            except Exception:
                log.exception("queue %s: a message could not be settled", self._compiled.consumption.queue)


def handle(compiled: Compiled, queues: Queues, message: "Message", stopping: "Event") -> None:
    """Handle one message and settle it: done, put off, or given up. A killed greenlet gives it back."""
    begun = perf_counter()
    failed: BaseException | None = None
    try:
        failed = _tried(compiled, message)
        deadline_at.set(None)  # settling has a patience of its own
        if failed is None:
            message.ack()
        else:
            _settle_failure(compiled, queues, message, failed, stopping)
    except BaseException as error:
        failed = error
        message.nack(requeue=True)
        raise
    finally:
        for listener in hooks.message_ended.listeners:
            listener(queue=compiled.consumption.queue, redelivered=message.redelivered, seconds=perf_counter() - begun, error=failed)


def _tried(compiled: Compiled, message: "Message") -> Exception | None:
    """Call the handler within its deadline and return what it raised."""
    one = compiled.consumption
    if one.deadline is not None:
        deadline_at.set(monotonic() + one.deadline)
    try:
        request = request_from(message, one.queue)
        hooks.request_id.set(request)  # itself, not its id: its trace goes on with what the handler publishes
        refuse_what_was_lost_too_often(one, message)
        compiled.handle(message, request)
    except Exception as error:  # noqa: BLE001  whatever a handler raises, its message is put off or given up
        return error
    return None


def _settle_failure(compiled: Compiled, queues: Queues, message: "Message", error: Exception, stopping: "Event") -> None:
    """Put a failed message off, or give it up; when the broker takes neither, it goes back after a pause."""
    one, failures = compiled.consumption, failures_of(message) + 1
    is_final = is_hopeless(error) or failures > one.retries
    what = f"goes to {one.dead_letter or 'nowhere'}" if is_final else f"is tried again in {one.pause_seconds(failures):g} s"
    log.log(
        logging.ERROR if is_final else logging.WARNING,
        "queue %s, try %d of %d failed and %s [request %s]: %s",
        one.queue, failures, one.retries + 1, what, hooks.request_id.get(), reason_of(error),
        exc_info=None if isinstance(error, Problem) else error,
    )  # fmt: skip
    try:
        if is_final:
            give_up(one, queues.dead, message, reason_of(error))
        else:
            put_off(queues.retries[failures - 1], message, failures)
    except Exception as fault:  # noqa: BLE001  whatever keeps the message from being moved, it must not be lost
        log.error("queue %s: a failed message cannot be moved (%s); it goes back", one.queue, fault)
        stopping.wait(min(one.pause_seconds(failures), LONGEST_PAUSE_SECONDS))
        message.nack(requeue=True)
        return
    message.ack()
