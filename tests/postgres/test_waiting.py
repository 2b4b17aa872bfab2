"""Who wakes a statement that waits, and where one cannot wait."""

import asyncio
from typing import Any

import gevent
import greenlet
import pytest
from gevent.exceptions import BlockingSwitchOutError

from nucleon import green
from nucleon.postgres import Postgres
from nucleon.testing import eventually


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """What has reached the hub."""
    kinds: list[type] = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda _context, kind, *_: kinds.append(kind))
    return kinds


def test_the_next_statement_is_answered_after_a_greenlet_ended_with_what_is_no_exception(db: Postgres, failed: list[type]) -> None:
    def ends_so() -> None:
        db.value("select 1")
        raise asyncio.CancelledError  # in the hub's callback that brought the reply: gevent stops the watcher of one that raises

    hub = gevent.get_hub()
    hub.loop.run_callback(greenlet.greenlet(ends_so, hub).switch)
    eventually(lambda: failed == [asyncio.CancelledError])
    before = db.pool.created
    with green.deadline(5):
        assert db.value("select 2") == 2
    assert db.pool.created == before


def test_a_statement_in_a_callback_of_the_loop_says_that_it_cannot_wait_there(db: Postgres) -> None:
    raised: list[Any] = []

    def ask() -> None:
        try:
            db.value("select 1")
        except BlockingSwitchOutError as error:
            raised.append(error)

    db.value("select 1")
    gevent.get_hub().loop.run_callback(ask)
    eventually(lambda: len(raised) == 1)
    assert "spawn a greenlet" in str(raised[0])
    assert db.value("select 3") == 3
    assert db.pool.in_use == 0


def test_a_switch_that_was_meant_for_something_else_does_not_end_a_statement(db: Postgres) -> None:
    gevent.get_hub().loop.run_callback(gevent.getcurrent().switch, "meant for something else")
    assert db.value("select 1 from pg_sleep(0.05)") == 1
    assert db.pool.closed_by_reason.total() == 0
