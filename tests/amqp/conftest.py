"""A client of a real RabbitMQ for each test, straight or by way of a proxy that makes trouble."""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from private_servers import PrivateRabbit

from nucleon.amqp import Amqp, Queue
from nucleon.testing import TcpProxy

Connect = Callable[..., Amqp]


@pytest.fixture
def connect(amqp_url: str) -> Iterator[Connect]:
    """Make clients: `connect(proxy, heartbeat_seconds=1)`; they are stopped at the end of the test."""
    made: list[Amqp] = []

    def client(proxy: TcpProxy | None = None, **settings: object) -> Amqp:
        url = amqp_url
        if proxy is not None:
            parts = urlsplit(amqp_url)
            url = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}").geturl()
        one = Amqp(**{"url": url, "retry_minimum_seconds": 0.05, "retry_maximum_seconds": 0.5, **settings})
        one.start()
        made.append(one)
        return one

    yield client
    for one in made:
        one.stop()


@pytest.fixture
def broker(connect: Connect) -> Amqp:
    """A client that talks straight to RabbitMQ."""
    return connect()


@pytest.fixture
def jobs(broker: Amqp) -> Queue:
    """An empty durable queue."""
    return broker.queue("jobs")


@pytest.fixture
def proxy(rabbitmq: PrivateRabbit, amqp_url: str) -> Iterator[TcpProxy]:
    """A proxy in front of RabbitMQ."""
    with TcpProxy(rabbitmq.address) as proxy:
        yield proxy
