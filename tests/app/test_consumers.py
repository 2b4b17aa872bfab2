"""Consumers: handlers of messages, with what a handler of requests gets; failures tried again and given up; stops without loss."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest

from nucleon import App, Header, Invalid, Model, green, hooks
from nucleon.amqp import Amqp, Message
from nucleon.amqp.codec import methods
from nucleon.message import Request
from nucleon.secret import Secret
from nucleon.testing import Client, FakeBroker, eventually


class Order(Model):
    id: int


class Session:
    def __init__(self) -> None:
        self.events: list[str] = []


@pytest.fixture
def fake() -> Iterator[FakeBroker]:
    with FakeBroker() as broker:
        yield broker


@pytest.fixture
def broker() -> Amqp:
    return Amqp()


@pytest.fixture
def app(fake: FakeBroker, broker: Amqp) -> App:
    app = App("shop")
    app.use(broker)
    app.configure({"amqp": Amqp.Settings(url=Secret(fake.url))})
    return app


@pytest.fixture
def client(app: App, fake: FakeBroker) -> Iterator[Client]:
    """The application, started, with a client that drains."""
    with Client(app, broker=fake) as client:
        yield client


@pytest.fixture
def consuming(app: App) -> Iterator[Callable[[], None]]:
    """Start the consumers and wait for their queues; the application stops after the test."""

    def start() -> None:
        app.start()
        app.consumers.start()
        eventually(app.consumers.are_ready)

    yield start
    app.consumers.drain(2)
    app.stop()


def bodies(fake: FakeBroker, queue: str) -> list[bytes]:
    return [message.body for message in fake.queue(queue).ready]


def test_a_handler_gets_body_headers_message_and_what_is_provided(app: App, broker: Amqp, client: Client) -> None:
    seen: list[Any] = []

    @app.provide
    def session() -> Session:
        return Session()

    @app.consume("orders", exchange="shop", key=["order.created", "order.changed"])
    def on_order(body: Order, source: Header[str], message: Message, session: Session, *, queue: Amqp, tenant: Header[int] = 7) -> None:
        seen.append((body.id, source, message.routing_key, type(session), queue is broker, tenant))

    broker.exchange("shop").declare()
    client.drain()  # the queue is bound before anything is published
    for key in ("order.created", "order.deleted", "order.changed"):
        broker.publish("shop", key, Order(id=len(key)), headers={"source": "web"})
    client.drain()
    assert seen == [(13, "web", "order.created", Session, True, 7), (13, "web", "order.changed", Session, True, 7)]


def test_a_wrong_body_is_dead_at_once_and_says_why(app: App, broker: Amqp, client: Client, fake: FakeBroker) -> None:
    seen: list[int] = []

    @app.consume("orders")
    def on_order(body: Order) -> None:
        seen.append(body.id)

    for body in (b'{"id": "seven"}', b"not json", {"id": 1, "more": 2}, {"id": 3}):
        broker.queue("orders", kind="quorum").put(body)
    client.drain()
    assert seen == [3]
    reasons = [message.headers["x-nucleon-reason"] for message in fake.queue("orders.dead").ready]
    assert reasons[0] == "Unprocessable Content: 1 fault; /id: Expected `int`, got `str`"
    assert "JSON" in reasons[1] and "/more" in reasons[2]
    assert bodies(fake, "orders.dead")[:2] == [b'{"id": "seven"}', b"not json"]


def test_a_handler_may_say_that_a_message_is_wrong(app: App, broker: Amqp, client: Client, fake: FakeBroker) -> None:
    @app.consume("orders", dead_letter="graveyard")
    def on_order(body: Order) -> None:
        raise Invalid("no such product")

    broker.queue("orders", kind="quorum").put(Order(id=1))
    client.drain()
    assert fake.queue("graveyard").ready[0].headers["x-nucleon-reason"] == "Unprocessable Content: no such product"


def test_a_failure_is_tried_again_with_growing_pauses_and_then_given_up(
    app: App, broker: Amqp, client: Client, fake: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[float] = []

    @app.consume("orders", exchange="shop", retries=3, retry_seconds=10)
    def on_order(body: Order) -> None:
        tries.append(fake.now())
        raise RuntimeError("a secret")

    client.drain()
    broker.publish("shop", "order.created", Order(id=1), message_id="m-1", headers={"mine": "kept"}, type="order")
    client.drain()
    pauses = [after - before for before, after in pairwise(tries)]
    assert len(pauses) == 3
    assert all(wanted <= pause < 2 * wanted for wanted, pause in zip((10, 40, 160), pauses, strict=True)), pauses
    dead = fake.queue("orders.dead").ready[0]
    told = {"x-nucleon-reason": "RuntimeError", "x-nucleon-tries": 4, "x-nucleon-queue": "orders", "mine": "kept"}
    assert told.items() <= dead.headers.items()
    assert (dead.headers["x-nucleon-exchange"], dead.headers["x-nucleon-routing-key"]) == ("shop", "order.created")
    assert (dead.properties.message_id, dead.properties.type, dead.body) == ("m-1", "order", b'{"id":1}')
    assert "a secret" not in str(dead.headers)
    assert "try 4 of 4 failed and goes to orders.dead [request " in caplog.text


def test_a_dead_letter_moved_back_is_tried_anew(app: App, broker: Amqp, client: Client, fake: FakeBroker) -> None:
    is_mended = False
    tries: list[int] = []

    @app.consume("orders", retries=2)
    def on_order(body: Order) -> None:
        tries.append(body.id)
        if not is_mended:
            raise RuntimeError

    broker.queue("orders", kind="quorum").put(Order(id=1))
    client.drain()
    graveyard = broker.queue("orders.dead", kind="quorum")
    dead = graveyard.get(timeout=5)
    broker.queue("orders", kind="quorum").put(dead.body, headers=dead.headers)
    dead.ack()
    graveyard.release()
    client.drain()
    assert len(tries) == 6


def test_without_a_dead_letter_queue_a_failure_is_dropped_and_logged(
    app: App, broker: Amqp, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    @app.consume("orders", retries=0, dead_letter=False)
    def on_order(body: Order) -> None:
        raise RuntimeError

    broker.queue("orders", kind="quorum").put(Order(id=1))
    client.drain()
    assert "try 1 of 1 failed and goes to nowhere" in caplog.text


def test_what_a_provider_has_is_given_back_before_the_acknowledgement(app: App, broker: Amqp, client: Client, fake: FakeBroker) -> None:
    story: list[str] = []

    @app.provide
    def session() -> Iterator[Session]:
        try:
            yield Session()
            story.append(f"committed with {fake.queue('orders').unacked} unacknowledged")
        except RuntimeError:
            story.append("rolled back")
            raise

    @app.consume("orders", retries=0)
    def on_order(body: Order, session: Session) -> None:
        if body.id == 2:
            raise RuntimeError

    for number in (1, 2):
        broker.queue("orders", kind="quorum").put(Order(id=number))
    client.drain()
    assert story == ["committed with 2 unacknowledged", "rolled back"]


def test_a_try_has_a_deadline(app: App, broker: Amqp, client: Client, fake: FakeBroker) -> None:
    left: list[float | None] = []

    @app.consume("orders", deadline=0.05, retries=1)
    def on_order(body: Order) -> None:
        left.append(green.remaining())
        green.sleep(5)

    broker.queue("orders", kind="quorum").put(Order(id=1))
    client.drain()
    assert len(left) == 2 and all(one is not None and one <= 0.05 for one in left)
    assert fake.queue("orders.dead").ready[0].headers["x-nucleon-reason"].startswith("Gateway Timeout")


def test_the_request_id_goes_along(app: App, broker: Amqp, client: Client) -> None:
    seen: list[str | None] = []

    @app.post("/orders", status=202)
    def place(body: Order) -> None:
        broker.queue("orders", kind="quorum").put(body)

    @app.consume("orders")
    def on_order(body: Order, request: Request) -> None:
        seen.extend([hooks.request_id.get(), request.id, request.route])

    assert client.post("/orders", json={"id": 1}, headers={"X-Request-Id": "abc-1"}).status == 202
    client.drain()
    assert seen == ["abc-1", "abc-1", "orders"]


def test_the_trace_goes_from_the_request_to_its_messages_and_theirs(app: App, broker: Amqp, client: Client, fake: FakeBroker) -> None:
    seen: list[str | None] = []

    @app.post("/orders", status=202)
    def place(body: Order) -> None:
        broker.publish("", "orders", body)

    @app.consume("orders")
    def on_order(body: Order, message: Message) -> None:
        seen.append(message.headers.get("traceparent"))
        broker.publish("", "notes", body)

    for queue, kind in (("orders", "quorum"), ("notes", "classic")):
        broker.queue(queue, kind=kind).declare()
    trace = "0af7651916cd43dd8448eb211c80319c"
    for number, parent in enumerate([f"00-{trace}-b7ad6b7169203331-01", "00-malformed-01", None]):
        given = {} if parent is None else {"traceparent": parent, "tracestate": "a=1"}
        assert client.post("/orders", json={"id": number}, headers=given).status == 202
    client.drain()
    notes = [message.headers for message in fake.queue("notes").ready]
    traced = [note for note in notes if "traceparent" in note]
    assert len(notes) == 3 and len(traced) == 1
    assert all("tracestate" not in note for note in notes if note is not traced[0])
    handed_on = [one for one in (*seen, traced[0]["traceparent"]) if one is not None]
    assert [one.split("-")[1::2] for one in handed_on] == [[trace, "01"]] * 2
    assert len({"b7ad6b7169203331", *(one.split("-")[2] for one in handed_on)}) == 3
    assert traced[0]["tracestate"] == "a=1"


def test_headers_that_are_given_go_over_the_trace_of_the_request(app: App, broker: Amqp, client: Client, fake: FakeBroker) -> None:
    @app.post("/orders", status=202)
    def place(body: Order) -> None:
        broker.publish("", "notes", body, headers={"traceparent": "mine", "x": 1})

    broker.queue("notes").declare()
    client.post("/orders", json={"id": 1}, headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-00", "tracestate": "a=1"})
    headers = fake.queue("notes").ready[0].headers
    assert (headers["traceparent"], headers["x"], "tracestate" in headers) == ("mine", 1, False)


def test_listeners_hear_how_each_message_went(app: App, broker: Amqp, client: Client) -> None:
    heard: list[tuple[str, str | None]] = []

    def listen(*, queue: str, redelivered: bool, seconds: float, error: BaseException | None) -> None:
        heard.append((queue, None if error is None else type(error).__name__))

    @app.consume("orders", retries=0)
    def on_order(body: Order) -> None:
        if body.id == 2:
            raise RuntimeError

    hooks.message_ended.add(listen)
    try:
        for number in (1, 2):
            broker.queue("orders", kind="quorum").put(Order(id=number))
        client.drain()
    finally:
        hooks.message_ended.remove(listen)
    assert heard == [("orders", None), ("orders", "RuntimeError")]


def test_concurrency_bounds_how_many_run_at_once(app: App, broker: Amqp, client: Client) -> None:
    running, most = 0, 0

    @app.consume("orders", concurrency=3)
    def on_order(body: Order) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        green.sleep(0.01)
        running -= 1

    for number in range(12):
        broker.queue("orders", kind="quorum").put(Order(id=number))
    client.drain()
    assert most == 3


# faults


def test_a_lost_connection_delivers_again_and_the_consumer_goes_on(app: App, broker: Amqp, fake: FakeBroker, consuming: Any) -> None:
    seen: list[tuple[int, bool]] = []

    @app.consume("orders")
    def on_order(body: Order, message: Message) -> None:
        seen.append((body.id, message.redelivered))
        if not message.redelivered and body.id == 1:
            fake.cut()

    consuming()
    broker.queue("orders", kind="quorum").put(Order(id=1))
    eventually(lambda: (1, True) in seen)
    broker.queue("orders", kind="quorum").put(Order(id=2), retry=True)
    eventually(lambda: seen[-1][0] == 2)
    eventually(fake.is_quiet)
    assert seen == [(1, False), (1, True), (2, False)]


def test_a_deleted_queue_is_made_and_consumed_again(
    app: App, broker: Amqp, fake: FakeBroker, consuming: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nucleon.app.consumers.FIRST_PAUSE_SECONDS", 0.02)
    seen: list[int] = []

    @app.consume("orders")
    def on_order(body: Order) -> None:
        seen.append(body.id)

    consuming()
    fake.vhost("/").delete_queue("orders")
    eventually(lambda: "orders" in fake.vhost("/").queues and bool(fake.queue("orders").consumers))
    broker.publish("", "orders", Order(id=1))
    eventually(lambda: seen == [1])


def test_a_queue_that_does_not_fit_is_told_and_tried_again(
    app: App, broker: Amqp, fake: FakeBroker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nucleon.app.consumers.FIRST_PAUSE_SECONDS", 0.02)

    @app.consume("orders")
    def on_order(body: Order) -> None: ...

    app.start()
    broker.queue("orders", kind="classic").declare()
    app.consumers.start()
    try:
        eventually(lambda: "queue orders is not consumed" in caplog.text and "x-queue-type" in caplog.text)
        broker.queue("orders").delete()
        eventually(app.consumers.are_ready)
    finally:
        app.consumers.drain(2)
        app.stop()


def test_a_failure_that_cannot_be_moved_goes_back_without_a_hot_loop(
    app: App, broker: Amqp, fake: FakeBroker, consuming: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[float] = []

    @app.consume("orders", retries=5, retry_seconds=0.1)
    def on_order(body: Order) -> None:
        tries.append(monotonic())
        raise RuntimeError

    consuming()
    broker.queue("orders", kind="quorum").put(Order(id=1))
    fake.faults.close_channel_at(methods.BasicPublish)
    eventually(lambda: len(tries) >= 2)
    assert tries[1] - tries[0] >= 0.1
    assert "cannot be moved" in caplog.text


def test_a_message_that_was_lost_with_its_workers_too_often_is_not_tried(app: App, broker: Amqp, fake: FakeBroker, client: Client) -> None:
    tries: list[int] = []

    @app.consume("orders", retries=1)
    def on_order(body: Order) -> None:
        tries.append(body.id)

    broker.queue("orders", kind="quorum").put(Order(id=1))
    fake.queue("orders").ready[0].delivery_count = 12
    client.drain()
    assert tries == []
    assert "delivered 12 times without an end" in fake.queue("orders.dead").ready[0].headers["x-nucleon-reason"]


def test_a_stop_lets_the_running_finish_and_gives_the_rest_back(app: App, broker: Amqp, fake: FakeBroker, consuming: Any) -> None:
    begun, done = [], []
    go_on = green.Event()

    @app.consume("orders", concurrency=2, prefetch=5)
    def on_order(body: Order) -> None:
        begun.append(body.id)
        go_on.wait()
        done.append(body.id)

    consuming()
    for number in range(8):
        broker.queue("orders", kind="quorum").put(Order(id=number))
    eventually(lambda: len(begun) == 2)
    draining = green.spawn(app.consumers.drain, 5)
    eventually(lambda: not fake.queue("orders").consumers)
    go_on.set()
    assert draining.get() == 0
    eventually(lambda: fake.queue("orders").unacked == 0)
    assert done == begun == [0, 1]
    assert bodies(fake, "orders") == [b'{"id":%d}' % number for number in range(2, 8)]


def test_what_does_not_finish_in_time_is_cancelled_and_given_back(app: App, broker: Amqp, fake: FakeBroker, consuming: Any) -> None:
    events: list[str] = []

    @app.consume("orders")
    def on_order(body: Order) -> None:
        events.append("begun")
        try:
            green.Event().wait(20)
        finally:
            events.append("ended")

    consuming()
    broker.queue("orders", kind="quorum").put(Order(id=1))
    eventually(lambda: events == ["begun"])
    assert app.consumers.drain(0.05) == 1
    eventually(lambda: fake.queue("orders").unacked == 0)
    assert (events, bodies(fake, "orders")) == (["begun", "ended"], [b'{"id":1}'])


def test_a_listener_that_raises_does_not_end_the_consumer(app: App, broker: Amqp, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def listen(**_facts: object) -> None:
        raise RuntimeError("a broken listener")

    @app.consume("orders")
    def on_order(body: Order) -> None:
        seen.append(body.id)

    hooks.message_ended.add(listen)
    try:
        for number in (1, 2):
            broker.queue("orders", kind="quorum").put(Order(id=number))
        client.drain()
    finally:
        hooks.message_ended.remove(listen)
    assert seen == [1, 2]
    assert "a broken listener" in caplog.text


@pytest.mark.parametrize("count", [-5, 99, "many"])
def test_a_count_of_tries_that_somebody_made_up_does_no_harm(
    app: App, broker: Amqp, client: Client, fake: FakeBroker, count: Any
) -> None:
    tries: list[int] = []

    @app.consume("orders", retries=1)
    def on_order(body: Order) -> None:
        tries.append(body.id)
        raise RuntimeError

    broker.queue("orders", kind="quorum").put(Order(id=1), headers={"x-nucleon-attempts": count})
    client.drain()
    assert len(tries) in (1, 2)
    assert len(fake.queue("orders.dead")) == 1


def test_the_log_tells_that_a_lost_connection_is_open_again(
    app: App, broker: Amqp, client: Client, fake: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.queue("orders").put(b"1")
    assert "open again" not in caplog.text  # the first time is no news
    fake.cut()
    eventually(lambda: "publishing connection: it is open again" in caplog.text)
