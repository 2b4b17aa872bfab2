"""For tests: an in-process client, a live server, a TCP proxy that makes trouble, scripted peers, a RabbitMQ in memory, a pytest plugin.

Names are loaded when they are first asked for, so the pytest plugin costs a project that does not use it nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nucleon.testing.broker import FakeBroker
    from nucleon.testing.client import Answer, Client
    from nucleon.testing.clock import HeldClock
    from nucleon.testing.live import LiveServer, free_port
    from nucleon.testing.peers import ScriptedPeer
    from nucleon.testing.proxy import TcpProxy
    from nucleon.testing.waiting import eventually

__all__ = ["Answer", "Client", "FakeBroker", "HeldClock", "LiveServer", "ScriptedPeer", "TcpProxy", "eventually", "free_port"]

_FILES = {
    "Answer": "client",
    "Client": "client",
    "FakeBroker": "broker",
    "HeldClock": "clock",
    "LiveServer": "live",
    "ScriptedPeer": "peers",
    "TcpProxy": "proxy",
    "eventually": "waiting",
    "free_port": "live",
}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"nucleon.testing has no {name}")
    from importlib import import_module

    value = getattr(import_module(f"nucleon.testing.{_FILES[name]}"), name)
    globals()[name] = value
    return value
