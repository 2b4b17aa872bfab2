"""From an order over HTTP to reserved stock and a notification, by way of RabbitMQ; its crash loses nothing and does nothing twice."""

from collections.abc import Iterator
from typing import Any

import pytest
from private_servers import PrivateRabbit

from example_app import app, events, service, stock
from nucleon import green
from nucleon.amqp.codec import methods
from nucleon.secret import Secret
from nucleon.testing import Client, FakeBroker, eventually

ORDER = {"customer": "c-17", "lines": [{"sku": "A-1", "quantity": 2}, {"sku": "B-2", "quantity": 1}]}
STOCK = 1000


def use_broker(url: str, **settings: Any) -> None:
    """Restart the application with a broker."""
    app.stop()
    app.configure({"amqp": service.broker.Settings(url=Secret(url), **settings)})
    app.start()


@pytest.fixture
def fake(client: Client) -> Iterator[FakeBroker]:
    with FakeBroker() as broker:
        use_broker(broker.url)
        client.broker = broker
        yield broker
        app.stop()


def placed(client: Client, **changes: Any) -> int:
    answer = client.post("/orders", json={**ORDER, **changes})
    assert answer.status == 201, answer.text
    return int(answer.json()["id"])


def left_of(sku: str) -> int:
    return int(service.db.value("select stock from products where sku = %s", sku))


def told(client: Client, id: int) -> list[str]:
    return [one["text"] for one in client.get(f"/orders/{id}/notifications").json()]


def events_left() -> int:
    return int(service.db.value("select count(*) from events"))


def test_an_order_reserves_stock_and_its_customer_is_told(client: Client, fake: FakeBroker) -> None:
    client.drain()  # the queues are there
    id = placed(client)
    eventually(lambda: not events_left())
    client.drain()
    eventually(lambda: not events_left())
    client.drain()
    assert (left_of("A-1"), left_of("B-2")) == (STOCK - 2, STOCK - 1)
    assert told(client, id) == ["Your order is on its way."]


def test_an_order_that_is_too_large_reserves_nothing(client: Client) -> None:
    id = placed(client, lines=[{"sku": "A-1", "quantity": 1}, {"sku": "B-2", "quantity": STOCK + 1}])
    stock.reserve(id)
    assert (left_of("A-1"), left_of("B-2")) == (STOCK, STOCK)
    assert service.db.value("select outcome from reservations") == "short"


def test_a_message_that_comes_twice_reserves_once(client: Client, fake: FakeBroker) -> None:
    client.drain()
    fake.faults.cut_after(methods.BasicPublish)  # taken, and the publisher does not know: it publishes again
    id = placed(client)
    eventually(lambda: not events_left(), within_seconds=15)
    assert len(fake.queue("stock.orders")) == 2
    client.drain()
    assert (left_of("A-1"), left_of("B-2")) == (STOCK - 2, STOCK - 1)
    stock.reserve(id)
    assert left_of("A-1") == STOCK - 2


def test_a_deleted_order_reserves_nothing(client: Client) -> None:
    id = placed(client)
    client.delete(f"/orders/{id}")
    stock.reserve(id)
    assert left_of("A-1") == STOCK


def test_without_a_broker_orders_are_taken_and_their_events_wait(client: Client) -> None:
    placed(client)
    assert events_left() == 1
    assert app.consumers.start() == 0


def test_an_event_that_nobody_takes_waits(client: Client, fake: FakeBroker) -> None:
    client.drain()
    service.broker.health()  # connected: a new connection would declare the queue again
    fake.vhost("/").delete_queue("stock.orders")
    placed(client)
    assert events.publish_recorded() == 0
    assert events_left() == 1


def test_a_killed_broker_loses_no_order_and_reserves_none_twice(client: Client, amqp_url: str, rabbitmq: PrivateRabbit) -> None:
    use_broker(amqp_url, retry_maximum_seconds=0.2)
    assert app.consumers.start() == 2
    eventually(app.consumers.are_ready, within_seconds=20)
    rabbitmq.sync()
    try:
        ids = [placed(client) for _ in range(10)]
        killing = green.spawn(rabbitmq.kill)
        ids += [placed(client) for _ in range(10)]  # while it dies, and while it is away
        killing.get()
        rabbitmq.start()
        ids += [placed(client) for _ in range(10)]
        eventually(lambda: service.db.value("select count(*) from notifications") == len(ids), within_seconds=40)
    finally:
        assert app.consumers.drain(10) == 0
    assert len(set(ids)) == 30
    assert (left_of("A-1"), left_of("B-2")) == (STOCK - 60, STOCK - 30)
    assert events_left() == 0
    assert all(told(client, id) == ["Your order is on its way."] for id in ids)
