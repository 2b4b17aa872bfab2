"""Clients of RabbitMQ under one harness: `python amqp_clients.py CLIENT SCENARIO URL BYTES SECONDS` prints JSON.

Scenarios: publish, pipelined, each, each50, consume100, consume1000, round_trip. What is published goes to an exchange without bindings, so
that the client is measured and not a queue; `consume*` reads the queue "bench64" (of 64 B), which the caller has filled.
`stall` is the most CPU time between two turns of the event loop, in seconds: that long other greenlets had no turn.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402  everything below sees the patched library
import resource  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from queue import Empty  # noqa: E402
from time import perf_counter, process_time  # noqa: E402
from typing import Any  # noqa: E402
from urllib.parse import unquote, urlsplit  # noqa: E402

import gevent  # noqa: E402
import gevent.event  # noqa: E402
import gevent.lock  # noqa: E402

EXCHANGE = "amq.fanout"
WINDOW = 100
GREENLETS = 50
PATIENCE = 10.0  # seconds for the next message of a queue that is not empty
WARM_UP = 1000  # messages consumed before the clock starts
Step = Callable[[], None]


class Client:
    """What each client does, with its own calls. `sync`: a question to the broker, whose answer comes behind everything sent."""

    def __init__(self, url: str, body: bytes) -> None:
        self.url, self.body, self.filled = url, body, f"bench{len(body)}"
        self.address = urlsplit(url)
        self.vhost = unquote(self.address.path[1:])

    def publish(self) -> Step: ...  # type: ignore[return]

    def sync(self) -> None: ...

    def pipelined(self, seconds: float) -> int:
        raise NotAvailable

    def each(self) -> Step: ...  # type: ignore[return]

    def consume(self, prefetch: int) -> Iterator[None]: ...

    def round_trip(self) -> Step: ...  # type: ignore[return]


class NotAvailable(Exception):
    """The client has no such thing."""


class Nucleon(Client):
    def __init__(self, url: str, body: bytes) -> None:
        super().__init__(url, body)
        from nucleon.amqp import Amqp

        self.broker = Amqp(url=url)
        self.broker.start()
        self.broker.health()  # opens the connections, which happens with the first use otherwise
        for confirm in (True, False):
            self.broker.publish(EXCHANGE, "k", body, confirm=confirm)

    def publish(self) -> Step:
        return lambda: self.broker.publish(EXCHANGE, "k", self.body, confirm=False)

    def sync(self) -> None:
        self.broker.publish(EXCHANGE, "k", self.body)

    def pipelined(self, seconds: float) -> int:
        publish, body, ends, count = self.broker.publish_async, self.body, perf_counter() + seconds, 0
        while perf_counter() < ends:
            confirms = [publish(EXCHANGE, "k", body) for _ in range(WINDOW)]
            for confirm in confirms:
                confirm.wait(10)
            count += WINDOW
        return count

    def each(self) -> Step:
        return lambda: self.broker.publish(EXCHANGE, "k", self.body)

    def consume(self, prefetch: int) -> Iterator[None]:
        with self.broker.queue(self.filled).consumer(prefetch) as consumer:
            while True:
                try:
                    consumer.get(timeout=PATIENCE).ack()
                except Empty:
                    return
                yield

    def round_trip(self) -> Step:
        queue = self.broker.temporary_queue()
        queue.put(self.body)
        queue.get(timeout=5).ack()

        def turn() -> None:
            queue.put_nowait(self.body)
            queue.get(timeout=5).ack()

        return turn


class PikaGevent(Client):
    def __init__(self, url: str, body: bytes) -> None:
        super().__init__(url, body)
        import pika
        from pika.adapters.gevent_connection import GeventConnection

        opened = gevent.event.AsyncResult()
        self.connection: Any = GeventConnection(pika.URLParameters(url), on_open_callback=opened.set)
        self.loop = gevent.spawn(self.connection.ioloop.start)
        opened.get(timeout=10)
        self.channel = self.wait(lambda done: self.connection.channel(on_open_callback=done))
        self.confirms: dict[int, Any] = {}
        self.tag = 0

    def wait(self, call: Callable[[Callable[..., None]], object]) -> Any:
        result = gevent.event.AsyncResult()
        call(lambda *values: result.set(values[0] if values else None))
        return result.get(timeout=10)

    def publish(self) -> Step:
        count = 0

        def step() -> None:
            nonlocal count
            self.channel.basic_publish(EXCHANGE, "k", self.body)
            count += 1
            if count % 50 == 0:
                gevent.sleep(0)  # it writes in the loop: without a turn for that, everything stays in memory

        return step

    def sync(self) -> None:
        self.wait(lambda done: self.channel.exchange_declare(EXCHANGE, passive=True, callback=done))

    def confirming(self) -> None:
        def settled(frame: Any) -> None:
            tag = frame.method.delivery_tag
            for one in [each for each in list(self.confirms) if each <= tag] if frame.method.multiple else [tag]:
                self.confirms.pop(one).set()

        self.wait(lambda done: self.channel.confirm_delivery(settled, callback=done))

    def sent(self) -> Any:
        self.tag += 1
        future = self.confirms[self.tag] = gevent.event.Event()
        self.channel.basic_publish(EXCHANGE, "k", self.body)
        return future

    def pipelined(self, seconds: float) -> int:
        self.confirming()
        ends, count = perf_counter() + seconds, 0
        while perf_counter() < ends:
            for future in [self.sent() for _ in range(WINDOW)]:
                future.wait(10)
            count += WINDOW
        return count

    def each(self) -> Step:
        self.confirming()
        return lambda: self.sent().wait(10)

    def consuming(self, queue: str, prefetch: int) -> Any:
        inbox: Any = gevent.queue.SimpleQueue()
        self.wait(lambda done: self.channel.basic_qos(prefetch_count=prefetch, callback=done))
        self.channel.basic_consume(queue, lambda _channel, method, _properties, _body: inbox.put(method.delivery_tag))
        return inbox

    def consume(self, prefetch: int) -> Iterator[None]:
        inbox = self.consuming(self.filled, prefetch)
        while True:
            try:
                tag = inbox.get(timeout=PATIENCE)
            except Empty:
                return
            self.channel.basic_ack(tag)
            yield

    def round_trip(self) -> Step:
        name = self.wait(lambda done: self.channel.queue_declare("", exclusive=True, callback=done)).method.queue
        inbox = self.consuming(name, 10)

        def turn() -> None:
            self.channel.basic_publish("", name, self.body)
            self.channel.basic_ack(inbox.get(timeout=5))

        return turn


class PikaBlocking(Client):
    def __init__(self, url: str, body: bytes) -> None:
        super().__init__(url, body)
        import pika

        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel: Any = self.connection.channel()

    def publish(self) -> Step:
        return lambda: self.channel.basic_publish(EXCHANGE, "k", self.body)

    def sync(self) -> None:
        self.channel.exchange_declare(EXCHANGE, passive=True)

    def each(self) -> Step:
        self.channel.confirm_delivery()
        return self.publish()

    def consume(self, prefetch: int) -> Iterator[None]:
        self.channel.basic_qos(prefetch_count=prefetch)
        for method, _properties, _body in self.channel.consume(self.filled, inactivity_timeout=PATIENCE):
            if method is None:
                return
            self.channel.basic_ack(method.delivery_tag)
            yield

    def round_trip(self) -> Step:
        name = self.channel.queue_declare("", exclusive=True).method.queue
        messages = self.channel.consume(name)

        def turn() -> None:
            self.channel.basic_publish("", name, self.body)
            self.channel.basic_ack(next(messages)[0].delivery_tag)

        return turn


class PyAmqp(Client):
    def __init__(self, url: str, body: bytes) -> None:
        super().__init__(url, body)
        import amqp

        self.amqp: Any = amqp
        host = f"{self.address.hostname}:{self.address.port}"
        self.connection: Any = amqp.Connection(host, self.address.username, self.address.password, virtual_host=self.vhost)
        self.connection.connect()
        self.channel: Any = self.connection.channel()

    def message(self) -> Any:
        return self.amqp.Message(self.body, delivery_mode=2)

    def publish(self) -> Step:
        return lambda: self.channel.basic_publish(self.message(), EXCHANGE, "k")

    def sync(self) -> None:
        self.channel.exchange_declare(EXCHANGE, "fanout", passive=True)

    def pipelined(self, seconds: float) -> int:
        self.channel.confirm_select()
        waiting: set[int] = set()
        self.channel.events["basic_ack"].add(
            lambda tag, multiple: waiting.difference_update([one for one in waiting if one <= tag] if multiple else [tag])
        )
        ends, count = perf_counter() + seconds, 0
        while perf_counter() < ends:
            for _ in range(WINDOW):
                count += 1
                waiting.add(count)
                self.channel._basic_publish(self.message(), EXCHANGE, "k")
            while waiting:
                self.connection.drain_events(timeout=10)
        return count

    def each(self) -> Step:
        return lambda: self.channel.basic_publish_confirm(self.message(), EXCHANGE, "k")

    def consuming(self, queue: str, prefetch: int) -> list[Any]:
        inbox: list[Any] = []
        self.channel.basic_qos(0, prefetch, False)
        self.channel.basic_consume(queue, callback=inbox.append)
        return inbox

    def consume(self, prefetch: int) -> Iterator[None]:
        inbox = self.consuming(self.filled, prefetch)
        while True:
            try:
                self.connection.drain_events(timeout=PATIENCE)
            except TimeoutError:
                return
            while inbox:
                self.channel.basic_ack(inbox.pop(0).delivery_tag)
                yield

    def round_trip(self) -> Step:
        name = self.channel.queue_declare("", exclusive=True).queue
        inbox = self.consuming(name, 10)

        def turn() -> None:
            self.channel.basic_publish(self.message(), "", name)
            while not inbox:
                self.connection.drain_events(timeout=5)
            self.channel.basic_ack(inbox.pop().delivery_tag)

        return turn


class Kombu(Client):
    def __init__(self, url: str, body: bytes) -> None:
        super().__init__(url, body)
        import kombu

        self.kombu: Any = kombu

    def opened(self, **options: Any) -> Any:
        self.connection = self.kombu.Connection(self.url, transport_options=options)
        self.channel = self.connection.channel()
        return self.channel.Producer()

    def publish(self) -> Step:
        producer = self.opened()
        return lambda: producer.publish(self.body, "k", exchange=EXCHANGE)

    def sync(self) -> None:
        self.channel.exchange_declare(EXCHANGE, "fanout", passive=True)

    def each(self) -> Step:
        producer = self.opened(confirm_publish=True)
        return lambda: producer.publish(self.body, "k", exchange=EXCHANGE)

    def consuming(self, queue: Any, prefetch: int) -> list[Any]:
        inbox: list[Any] = []
        consumer = self.kombu.Consumer(self.channel, [queue], on_message=inbox.append, prefetch_count=prefetch)
        consumer.consume()
        return inbox

    def consume(self, prefetch: int) -> Iterator[None]:
        self.opened()
        inbox = self.consuming(self.kombu.Queue(self.filled, no_declare=True), prefetch)
        while True:
            try:
                self.connection.drain_events(timeout=PATIENCE)
            except TimeoutError:
                return
            while inbox:
                inbox.pop(0).ack()
                yield

    def round_trip(self) -> Step:
        producer = self.opened()
        name = self.channel.queue_declare("", exclusive=True).queue
        inbox = self.consuming(self.kombu.Queue(name, no_declare=True), 10)

        def turn() -> None:
            producer.publish(self.body, name, exchange="")
            while not inbox:
                self.connection.drain_events(timeout=5)
            inbox.pop().ack()

        return turn


class AmqpStorm(Client):
    def __init__(self, url: str, body: bytes) -> None:
        super().__init__(url, body)
        import amqpstorm

        one = self.address
        options: Any = {"port": one.port, "virtual_host": self.vhost}
        self.connection = amqpstorm.Connection(one.hostname, one.username, one.password, **options)
        self.channel: Any = self.connection.channel()

    def publish(self) -> Step:
        return lambda: self.channel.basic.publish(self.body, "k", EXCHANGE)

    def sync(self) -> None:
        self.channel.exchange.declare(EXCHANGE, passive=True)

    def each(self) -> Step:
        self.channel.confirm_deliveries()
        return self.publish()

    def consume(self, prefetch: int) -> Iterator[None]:
        self.channel.basic.qos(prefetch)
        self.channel.basic.consume(queue=self.filled)
        for message in self.channel.build_inbound_messages():
            message.ack()
            yield

    def round_trip(self) -> Step:
        name = self.channel.queue.declare("", exclusive=True)["queue"]
        self.channel.basic.consume(queue=name)
        messages = self.channel.build_inbound_messages()

        def turn() -> None:
            self.channel.basic.publish(self.body, name)
            next(messages).ack()

        return turn


CLIENTS: dict[str, type[Client]] = {
    "nucleon": Nucleon,
    "pika_gevent": PikaGevent,
    "pika_blocking": PikaBlocking,
    "py_amqp": PyAmqp,
    "kombu": Kombu,
    "amqpstorm": AmqpStorm,
}
SHARES_A_CHANNEL = (Nucleon, PikaGevent)  # the others have a lock around each publish: two at once break them or are forbidden


def repeated(step: Step, seconds: float) -> int:
    ends, count = perf_counter() + seconds, 0
    while perf_counter() < ends:
        for _ in range(10):
            step()
        count += 10
    return count


def at_once(client: Client, seconds: float) -> int:
    step = client.each()
    if not isinstance(client, SHARES_A_CHANNEL):
        lock, unlocked = gevent.lock.BoundedSemaphore(1), step

        def step() -> None:
            with lock:
                unlocked()

    workers = [gevent.spawn(repeated, step, seconds) for _ in range(GREENLETS)]
    return sum(worker.get() for worker in workers)


def consumed(messages: Iterator[None], seconds: float) -> int:
    ends, count = perf_counter() + seconds, 0
    for _ in messages:
        count += 1
        if count % 20 == 0 and perf_counter() > ends:
            break
    return count


class Stall:
    """The most CPU time that this process has used between two turns of the loop."""

    def __init__(self) -> None:
        self.longest, self.at = 0.0, process_time()
        self.watcher: Any = gevent.get_hub().loop.check()
        self.watcher.start(self.turn)

    def turn(self) -> None:
        now = process_time()
        self.longest, self.at = max(self.longest, now - self.at), now


def measured(client: Client, scenario: str, seconds: float) -> dict[str, float]:
    prepared: Any = None
    if scenario in ("publish", "each", "round_trip"):
        prepared = getattr(client, scenario)()
    elif scenario.startswith("consume"):
        prepared = client.consume(int(scenario.removeprefix("consume")))
        for _ in range(WARM_UP):
            next(prepared)
    gevent.sleep(0.01)
    stall = Stall()
    before, begun = resource.getrusage(resource.RUSAGE_SELF), perf_counter()
    if scenario == "pipelined":
        count = client.pipelined(seconds)
    elif scenario == "each50":
        count = at_once(client, seconds)
    elif scenario.startswith("consume"):
        count = consumed(prepared, seconds)
    else:
        count = repeated(prepared, seconds)
        if scenario == "publish":
            client.sync()
    took, after = perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    gevent.sleep(0)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"messages": count, "seconds": took, "cpu": cpu, "stall": stall.longest}


if __name__ == "__main__":
    _, name, scenario, url, size, seconds = sys.argv
    try:
        print(json.dumps(measured(CLIENTS[name](url, b"x" * int(size)), scenario, float(seconds))), flush=True)
    except NotAvailable:
        print("{}", flush=True)
    import os

    os._exit(0)  # connections need no goodbye here
