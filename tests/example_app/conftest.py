"""The example, on an empty database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from example_app import app, service
from nucleon.postgres.migrating import up
from nucleon.secret import Secret
from nucleon.testing import Client


@pytest.fixture
def client(fresh_postgres_dsn: str, redis_url: str) -> Iterator[Client]:
    settings = service.db.Settings(dsn=Secret(fresh_postgres_dsn))
    up(settings, Path(service.__file__).with_name("migrations"))
    app.configure(
        {
            "postgres": settings,
            "redis": service.cache.Settings(url=Secret(redis_url)),
            "amqp": service.broker.Settings(),
        }
    )
    with Client(app) as client:
        yield client
