"""The example, on an empty database."""

from collections.abc import Iterator

import pytest

from example_app import app, service
from nucleon.secret import Secret
from nucleon.testing import Client


@pytest.fixture
def client(fresh_postgres_dsn: str, redis_url: str) -> Iterator[Client]:
    app.configure(
        {
            "postgres": service.db.Settings(dsn=Secret(fresh_postgres_dsn)),
            "redis": service.cache.Settings(url=Secret(redis_url)),
        }
    )
    with Client(app) as client:
        yield client
