"""Runs redis-py's own tests of its commands against our client, as a program.

usage: redis_py_shim.py FOLDER URL WAY NAME... [pytest options]

FOLDER: redis-py's source distribution, of the version that is installed. URL: a server that may be flushed. WAY: "2" or "3" (RESP), or
"3 copies" with replies kept in the worker. NAME: of a file, as `commands` for tests/test_commands.py. Every client that those tests
ask of their `conftest` is a `nucleon.redis.Redis`; with NUCLEON_SUITE_CLIENT=redis-py it is theirs, which tells faults of ours from
what the server does otherwise. Prints one JSON object as its last line: how many tests passed, how many of these had a client, and
the names of those that failed or were skipped, each with the last line of what was said.
"""
# ruff: noqa: E402  (the standard library is patched before anything else is imported)

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from nucleon import green

green.patch()

import tracemalloc
from collections.abc import Generator

import gevent
import pytest

from nucleon.redis import Redis
from nucleon.secret import Secret

OTHERS = "not onlycluster and not redismod and not replica and not ssl and not cp_integration and not fixed_client"
"""Marks of tests that need another server (a cluster, one with modules, a replica, TLS), or make a client of their own."""

VERSION = "8.0.0"
"""Which Redis the server is taken for. Valkey says 7.2.4 for the sake of old clients, but has the hash commands of Redis 8.0."""
TEST_SECONDS = 15


class Suite:
    """A pytest plugin: puts our client in place of theirs, and keeps the account."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.with_client: set[str] = set()
        self.passed: list[str] = []
        self.failed: dict[str, str] = {}
        self.skipped: dict[str, str] = {}

    def pytest_collection(self, session: pytest.Session) -> None:
        """Before the tests import it from there, replace what makes their clients."""
        conftest = sys.modules["tests.conftest"]
        theirs = conftest._get_client  # type: ignore[attr-defined]

        def get_client(kind: Any, request: Any, **options: Any) -> Any:
            self.with_client.add(request.node.nodeid)
            if os.environ.get("NUCLEON_SUITE_CLIENT") == "redis-py":
                return theirs(kind, request, **options)
            return ours(request, self.way, **options)

        conftest._get_client = get_client  # type: ignore[attr-defined]
        conftest.REDIS_INFO["version"] = VERSION  # type: ignore[attr-defined]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Bound every test, by a greenlet's time-out instead of a thread's."""
        with gevent.Timeout(TEST_SECONDS, TimeoutError(f"not done within {TEST_SECONDS} s")):
            return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended; of one that failed twice, test and teardown, the first."""
        name = report.nodeid.removeprefix("tests/test_").replace(".py::", " ")
        if report.failed:
            self.failed.setdefault(name, last_line(report))
        elif report.skipped:
            self.skipped[name] = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        elif report.when == "call":
            self.passed.append(report.nodeid)

    def account(self) -> dict[str, Any]:
        """Return what is printed."""
        used = sum(1 for name in self.passed if name in self.with_client)
        return {"passed": len(self.passed), "passed_with_client": used, "failed": self.failed, "skipped": self.skipped}


def ours(
    request: Any, way: str, *, flushdb: bool = True, from_url: str | None = None, **options: Any
) -> Redis:
    """Return our client for the arguments of theirs; what is no setting of ours goes into the URL, where redis-py reads it."""
    for name in ("single_connection_client", "retry", "retry_on_timeout"):  # ours shares connections, and never repeats a write
        options.pop(name, None)
    parts = urlsplit(from_url or request.config.getoption("--redis-url"))
    settings: dict[str, Any] = {name: options.pop(name) for name in ("protocol", "decode_responses") if name in options}
    settings = {"protocol": int(way[0]), "local_bytes": 1_000_000 if way.endswith("copies") else 0, **settings}
    query = urlencode({**dict(parse_qsl(parts.query)), **options})
    client = Redis(url=Secret(urlunsplit(parts._replace(query=query))), **settings)

    def end() -> None:
        if flushdb:
            client.flushdb()
        client.stop()

    request.addfinalizer(end)
    return client


def last_line(report: pytest.TestReport) -> str:
    """Return what pytest's summary would say of a failure."""
    crash = getattr(report.longrepr, "reprcrash", None)
    said = crash.message if crash is not None else str(report.longrepr)
    return " ".join(said.split())[:300]


def run(folder: Path, url: str, way: str, *names: str) -> dict[str, Any]:
    """Run the tests and return the account."""
    files = [name if name.startswith("-") else f"tests/test_{name}.py" for name in names]
    os.chdir(folder)
    tracemalloc.start = lambda _frames=1: None  # their conftest traces every allocation, which doubles the time
    suite = Suite(way)
    with tempfile.NamedTemporaryFile(suffix=".ini") as ini:
        ini.write(b"[pytest]\nfilterwarnings = ignore\n")
        ini.flush()
        arguments = ["-c", ini.name, "--rootdir", str(folder), "-p", "no:cacheprovider", "-p", "no:nucleon", "-p", "no:timeout"]
        arguments += ["-m", OTHERS, "-q", "--tb=no", "--assert=plain"]
        arguments += ["--redis-url", url, "--protocol", way[0], *files]
        pytest.main(arguments, plugins=[suite])
    return suite.account()


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), *sys.argv[2:])))
