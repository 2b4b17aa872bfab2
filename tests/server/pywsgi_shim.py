"""Runs gevent's own tests of its WSGI server (`gevent.tests.test__pywsgi`) against ours, as a program.

`pywsgi.WSGIServer` is replaced before those tests are imported. Prints one JSON object: how many tests ran, and the names of those that
failed or were skipped, each with the last line of what was said. Tests of classes that are pywsgi's own are left out.
"""
# ruff: noqa: E402  (the standard library is patched before anything else is imported)

import io
import json
import logging
import unittest
import warnings
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from nucleon import green

green.patch()

import gevent
from gevent import pywsgi

from nucleon import http
from nucleon.server import Server, Settings

OWN = ("TestInputRaw", "TestEnviron", "TestLogging", "TestHandlerSubclass")
"""Their classes `Input`, `SecureEnviron`, `LoggingLogAdapter` and a subclass of their handler."""


class ToTheHub(logging.Handler):
    """Says an error that the server logs where gevent's tests look for it."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0] is not None:
            gevent.get_hub().handle_error(None, *record.exc_info)


class WSGIServer:
    """What the tests use of `pywsgi.WSGIServer`, served by our server."""

    def __init__(self, _listener: tuple[str, int], application: Any, **_others: Any) -> None:
        self._listener = green.listen(("127.0.0.1", 0))
        self._server = Server(application, Settings(head_seconds=5, idle_seconds=5))
        self.server_port = 0

    def start(self) -> None:
        self.server_port = self._listener.getsockname()[1]
        self._server.add_listener(self._listener)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()
        self._listener.close()


def last_line(said: str) -> str:
    return said.strip().splitlines()[-1][:200]


def run() -> dict[str, Any]:
    """Run the tests and return the account that is printed."""
    warnings.simplefilter("ignore")
    logging.getLogger("nucleon").addHandler(ToTheHub())
    logging.getLogger("nucleon").propagate = False
    pywsgi.WSGIServer = WSGIServer
    from gevent.tests import test__pywsgi as module

    kinds = {name: kind for name, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, unittest.TestCase)}
    cases = [kind for name, kind in kinds.items() if name not in OWN]
    tests = unittest.TestSuite(unittest.defaultTestLoader.loadTestsFromTestCase(case) for case in cases)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        seen = unittest.TextTestRunner(stream=io.StringIO(), resultclass=unittest.TextTestResult).run(tests)
    prefix = "gevent.tests.test__pywsgi."
    failed = {test.id().removeprefix(prefix): last_line(said) for test, said in [*seen.failures, *seen.errors]}
    skipped = {test.id().removeprefix(prefix): reason for test, reason in seen.skipped}
    return {"compiled": http.COMPILED, "ran": seen.testsRun, "failed": failed, "skipped": skipped}


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
