"""Consumers that cannot work are told at the start, with what to change."""

from typing import Any

import pytest

from nucleon import App, Model
from nucleon.amqp import Amqp
from nucleon.errors import SetupError
from nucleon.testing import Client, FakeBroker, TcpProxy, eventually


class Order(Model):
    id: int


@pytest.fixture
def app() -> App:
    app = App("shop")
    app.use(Amqp())
    return app


def fault_of(app: App) -> str:
    with pytest.raises(SetupError) as error:
        app.check()
    return str(error.value)


def test_a_consumer_without_a_broker_is_a_fault() -> None:
    app = App("shop")

    @app.consume("orders")
    def on_order(body: Order) -> None: ...

    assert "@app.consume('orders') needs a broker, and there is none: broker = app.use(Amqp())" in fault_of(app)


def test_a_parameter_that_a_message_cannot_carry_is_a_fault(app: App) -> None:
    @app.consume("orders")
    def on_order(body: Order, page: int) -> None: ...

    assert "a message has a body and headers, but no query: parameter page" in fault_of(app)


def test_several_brokers_are_told_apart_by_name(app: App) -> None:
    app.use(Amqp(), name="other")

    @app.consume("orders")
    def one(body: Order) -> None: ...

    @app.consume("orders", broker="nobody")
    def two(body: Order) -> None: ...

    told = fault_of(app)
    assert "there are 2: say broker=" in told and "broker='nobody' is none of amqp, other" in told


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kind": "stream"}, "kind= is quorum or classic"),
        ({"concurrency": 20, "prefetch": 10}, "prefetch=10 at least as many"),
        ({"retries": -1}, "retries="),
        ({"deadline": 0}, "deadline="),
        ({"key": "x"}, "name it with exchange="),
    ],
)
def test_options_that_make_no_sense_are_refused(app: App, options: Any, complaint: str) -> None:
    with pytest.raises(SetupError, match=complaint):

        @app.consume("orders", **options)
        def on_order(body: Order) -> None: ...


def test_an_unknown_option_is_refused(app: App) -> None:
    with pytest.raises(TypeError, match="there is no option retry; there are broker, concurrency"):
        app.consume("orders", retry=3)(lambda: None)  # type: ignore[call-arg]


def test_an_optional_broker_may_be_missing_and_nothing_is_consumed() -> None:
    app = App("shop")
    app.use(Amqp(), optional=True)

    @app.consume("orders")
    def on_order(body: Order) -> None: ...

    app.start()
    assert app.consumers.start() == 0
    assert app.consumers.drain(1) == 0
    app.stop()


def test_drain_without_a_broker_says_what_to_give(app: App) -> None:
    with pytest.raises(AssertionError, match="Client\\(app, broker=FakeBroker\\(\\)\\)"):
        Client(app).drain()


def test_the_queues_are_made_as_soon_as_a_broker_that_was_away_at_the_start_is_there() -> None:
    app = App("shop")

    @app.consume("orders", exchange="shop", key="order.created")
    def on_order(body: Order) -> None: ...

    with FakeBroker() as fake, TcpProxy(("127.0.0.1", fake.port)) as proxy:
        broker = app.use(Amqp(url=fake.url.replace(f":{fake.port}", f":{proxy.port}"), bridge_seconds=0.1))
        proxy.reset()
        app.start()
        app.consumers.make_queues(0.2)
        assert "orders" not in fake.vhost("/").queues
        proxy.pass_through()
        assert eventually(lambda: "orders" in fake.vhost("/").queues, within_seconds=10)
        broker.publish("shop", "order.created", Order(id=1), mandatory=True)
        assert app.consumers.drain(1) == 0
        app.stop()
