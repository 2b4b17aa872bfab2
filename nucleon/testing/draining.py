"""Consumers run until nothing is left to do, in the test's own process."""

from time import monotonic
from typing import Any

from nucleon.green import sleep
from nucleon.testing.broker import FakeBroker

TURN_SECONDS = 0.002
QUIET_TURNS = 3  # what was acknowledged may still be on its way to the broker
STOP_SECONDS = 5.0


def drain(application: Any, broker: FakeBroker, within_seconds: float) -> None:
    """Start the consumers, wait until the broker is quiet and no message waits for another try, and stop them.

    Raises `AssertionError` when that takes longer than `within_seconds`, with what is left.
    """
    application.check()
    consumers = application.consumers
    ends = monotonic() + within_seconds
    started = consumers.start()
    assert started, "the application has no consumer that runs: is its broker configured?"
    try:
        _until(consumers.are_ready, ends, lambda: "the consumers do not get their queues: see the log")
        while True:
            _until_quiet(broker, ends)
            if not broker.skip_waiting():
                return
    finally:
        cancelled = consumers.drain(STOP_SECONDS)
        assert not cancelled, f"{cancelled} handlers did not end within {STOP_SECONDS:g} s"


def _until_quiet(broker: FakeBroker, ends: float) -> None:
    turns = 0

    def was_quiet() -> bool:
        nonlocal turns
        turns = turns + 1 if broker.is_quiet() else 0
        return turns >= QUIET_TURNS

    _until(was_quiet, ends, lambda: f"messages are left: {broker.left()}")


def _until(condition: Any, ends: float, complaint: Any) -> None:
    while not condition():
        assert monotonic() < ends, complaint()
        sleep(TURN_SECONDS)
