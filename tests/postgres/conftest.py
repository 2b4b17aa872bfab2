"""A database for each test, with a table of items."""

from collections.abc import Iterator

import pytest

from nucleon import hooks
from nucleon.postgres import Postgres


@pytest.fixture
def db(fresh_postgres_dsn: str) -> Iterator[Postgres]:
    database = Postgres(dsn=fresh_postgres_dsn, maximum=10)
    database.start()
    database.execute("create table items (id serial primary key, name text not null unique, price numeric check (price >= 0))")
    yield database
    database.stop()


@pytest.fixture(autouse=True)
def outside_any_request() -> Iterator[None]:
    """A test that calls `app.respond` itself leaves its request's id behind."""
    yield
    hooks.request_id.set(None)
