"""A greenlet that waits goes straight on to the next one of the turn; the hub goes on when there is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import greenlet
import pytest

from nucleon.green.threads import NOBODY, Turn, here


class Waking(Turn):
    """The hub's turn in this test: it wakes greenlets, one after the other."""

    def __init__(self, greenlets: list[Any]) -> None:
        self.greenlets = greenlets

    def others_follow(self) -> bool:
        return bool(self.greenlets)

    def pass_on(self) -> Any:
        return self.greenlets.pop(0).switch("passed on") if self.greenlets else NOBODY

    def run(self) -> None:
        here.thread.turn = self
        try:
            while self.greenlets:
                self.greenlets.pop(0).switch("by the hub")
        finally:
            here.thread.turn = None


@contextmanager
def switches() -> Iterator[list[tuple[Any, Any]]]:
    """Collect from which greenlet to which one this thread switches."""
    seen: list[tuple[Any, Any]] = []
    before = greenlet.settrace(lambda _event, pair: seen.append(pair))
    try:
        yield seen
    finally:
        greenlet.settrace(before)


def leaver(woken: list[Any], dies: bool = False) -> Any:
    """Return a greenlet that waits once, tells what it was woken with, and waits again or dies."""
    hub = gevent.get_hub()

    def run() -> None:
        woken.append(here.thread.leave(hub))
        if dies:
            raise ZeroDivisionError
        here.thread.leave(hub)

    one = greenlet.greenlet(run, hub)
    in_hub(one.switch)  # it waits now
    return one


def in_hub(function: Any, *arguments: Any) -> None:
    """Let the hub call a function, and come back."""
    gevent.get_hub().loop.run_callback(function, *arguments)
    gevent.sleep(0)


def test_without_a_turn_the_hub_goes_on_and_gives_what_the_greenlet_is_woken_with() -> None:
    hub = gevent.get_hub()
    hub.loop.run_callback(gevent.getcurrent().switch, "woken")
    assert here.thread.leave(hub) == "woken"


def test_greenlets_of_one_turn_switch_to_one_another_and_the_last_one_to_the_hub() -> None:
    woken: list[Any] = []
    ones = [leaver(woken) for _ in range(3)]
    hub = gevent.get_hub()
    with switches() as seen:
        in_hub(Waking(list(ones)).run)
    first, second, third = ones
    among = [pair for pair in seen if pair[0] in ones or pair[1] in ones]
    assert among == [(hub, first), (first, second), (second, third), (third, hub)]
    assert woken == ["by the hub", "passed on", "passed on"]


def test_a_greenlet_that_is_killed_after_it_passed_the_turn_on_ends_alone() -> None:
    woken: list[Any] = []
    first, second = leaver(woken), leaver(woken)
    in_hub(Waking([first, second]).run)
    in_hub(first.throw, gevent.GreenletExit)
    assert first.dead
    assert not second.dead
    in_hub(second.throw, gevent.GreenletExit)


def test_what_a_greenlet_of_the_turn_raises_reaches_the_hub_and_the_turn_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, failed = gevent.get_hub(), list[type]()
    monkeypatch.setattr(hub, "handle_error", lambda _context, kind, *_: failed.append(kind))
    woken: list[Any] = []
    first, second = leaver(woken), leaver(woken, dies=True)
    in_hub(Waking([first, second]).run)
    assert failed == [ZeroDivisionError]
    assert second.dead
    assert here.thread.turn is None
    in_hub(first.throw, gevent.GreenletExit)


def test_each_thread_has_a_turn_of_its_own() -> None:
    mine = here.thread
    mine.turn = Turn()
    try:
        theirs = gevent.get_hub().threadpool.spawn(lambda: here.thread).get()
        assert theirs is not mine
        assert theirs.turn is None
        assert mine.turn.pass_on() is NOBODY
        assert not mine.turn.others_follow()
    finally:
        mine.turn = None
