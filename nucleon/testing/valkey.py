"""Fixtures for Redis of a test's own: a private server for the run, a client of it without keys, a clock that is held."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nucleon.embedded import ValkeyServer
    from nucleon.redis import Redis
    from nucleon.testing.clock import HeldClock


@pytest.fixture(scope="session")
def private_valkey() -> "Iterator[ValkeyServer]":
    """A Valkey of this test run alone, from the wheel of the `embedded` extra, in a folder that goes with it: `.url .stop() .start()`."""
    import shutil
    import tempfile

    from nucleon.embedded import ValkeyServer

    folder = Path(tempfile.mkdtemp(prefix="nucleon-tests-"))
    folder.chmod(0o755)  # the server runs as somebody else when the tests run as root
    server = ValkeyServer(folder, options={"appendonly": "no", "save": ""})
    try:
        server.start()
        yield server
    finally:
        server.discard()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fresh_redis(private_valkey: "ValkeyServer") -> "Iterator[Redis]":
    """A client of the private Valkey, which is empty. `fresh_redis.settings` configures an app's own resource for it."""
    from gevent import monkey

    from nucleon.redis import Redis
    from nucleon.secret import Secret

    if not monkey.is_module_patched("socket"):
        pytest.fail('nobody has patched the standard library: write addopts = "-p nucleon.testing.early" under [tool.pytest.ini_options]')
    client = Redis(url=Secret(private_valkey.url))
    client.flushall()
    try:
        yield client
    finally:
        client.stop()


@pytest.fixture
def held_clock() -> "HeldClock":
    """A clock that stands still until `held_clock.advance(seconds)`."""
    from nucleon.testing.clock import HeldClock

    return HeldClock()
