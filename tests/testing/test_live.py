"""A server process under a test's control (here Python's own; the journeys run `nucleon serve`)."""

import sys

import pytest

from nucleon.testing import LiveServer

STANDARD = (sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1")


def test_it_answers_once_it_is_started_and_its_log_is_kept() -> None:
    with LiveServer(command=STANDARD) as server:
        assert server.get("/").status == 200
        assert "GET / " in server.wait_for_log("GET")
        assert server.stop() != 0


def test_one_that_ends_at_once_fails_with_its_log() -> None:
    server = LiveServer(command=(sys.executable, "-c", "raise SystemExit('no such thing')"))
    with pytest.raises(AssertionError, match="no such thing"):
        server.start()


def test_a_killed_one_has_gone() -> None:
    with LiveServer(command=STANDARD) as server:
        server.kill()
        with pytest.raises(ConnectionRefusedError):
            server.get("/")
