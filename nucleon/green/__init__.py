"""The one door to gevent: patch, spawn, deadline, listen, connect, Lock, Event, Queue.

Deadlines need no event loop, so `nucleon.green.deadline` and friends load without gevent; the waiting names
(`spawn`, `sleep`, `Lock`, ...) load gevent when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

from nucleon.green.deadlines import check, deadline, deadline_at, remaining, seconds_left

if TYPE_CHECKING:
    from nucleon.green.patching import patch
    from nucleon.green.sockets import connect, listen, resolve
    from nucleon.green.waiting import Event, Greenlet, GreenletExit, Lock, Queue, in_thread, sleep, spawn

__all__ = [
    "Event", "Greenlet", "GreenletExit", "Lock", "Queue", "check", "connect", "deadline", "deadline_at", "in_thread",
    "listen", "patch", "remaining", "resolve", "seconds_left", "sleep", "spawn",
]  # fmt: skip

_ROOMS = {
    "patch": "patching",
    "connect": "sockets", "listen": "sockets", "resolve": "sockets",
    "Event": "waiting", "Greenlet": "waiting", "GreenletExit": "waiting", "Lock": "waiting", "Queue": "waiting",
    "in_thread": "waiting", "sleep": "waiting", "spawn": "waiting",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"nucleon.green has no {name}")
    from importlib import import_module

    value = getattr(import_module(f"nucleon.green.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value
