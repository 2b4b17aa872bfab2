"""What all tests share. `-p nucleon.testing.early` (in pyproject.toml) has patched the standard library before any plugin came."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nucleon import green, hooks

green.patch()  # for a run without the options of pyproject.toml
sys.path.insert(0, str(Path(__file__).parent / "fixtures"))  # one plugin per concern; the tests themselves are imported by path

pytest_plugins = ["postgres_fixtures", "redis_fixtures", "rabbitmq_fixtures", "service_fixtures"]


@pytest.fixture(autouse=True)
def no_request_is_left_over() -> Iterator[None]:
    """A test that calls an application directly leaves the id and the deadline of its request in this context: the next one has none."""
    yield
    hooks.request_id.set(None)
    green.deadline_at.set(None)
