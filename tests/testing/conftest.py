"""One suite for two brokers: RabbitMQ and the fake one. Helpers beside the tests are imported by name."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from private_servers import PrivateRabbit

sys.path.insert(0, str(Path(__file__).parent))

from wire_client import Wire

from nucleon.testing import FakeBroker


@pytest.fixture(scope="package")
def brokers(rabbitmq: PrivateRabbit) -> Iterator[dict[str, str]]:
    """The addresses of both; a virtual host for each test would take longer than the test."""
    rabbitmq.start()
    rabbitmq.add_vhosts(["brokers"])
    with FakeBroker() as fake:
        yield {"fake": fake.url, "rabbitmq": rabbitmq.url_of("brokers")}


@pytest.fixture(params=["fake", "rabbitmq"])
def url(request: pytest.FixtureRequest, brokers: dict[str, str]) -> str:
    return brokers[request.param]


@pytest.fixture
def connect(url: str) -> Iterator[Callable[[], Wire]]:
    wires: list[Wire] = []

    def another() -> Wire:
        wires.append(Wire(url))
        return wires[-1]

    yield another
    for wire in wires:
        wire.close()
    with Wire(url) as last:
        last.made = [method for wire in wires for method in wire.made]
        last.clear()


@pytest.fixture
def wire(connect: Callable[[], Wire]) -> Wire:
    return connect()
