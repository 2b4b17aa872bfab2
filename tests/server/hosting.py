"""Run a server of ours, or several, inside the test process."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nucleon import green


@dataclass
class Hosted:
    """A running server: where it listens, and what it runs."""

    server: Any
    app: Any
    address: tuple[str, int]


@contextmanager
def hosted(app: Any, **settings: Any) -> Iterator[Hosted]:
    """Serve app with these settings until the block ends."""
    from nucleon.server import Server, Settings

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    server = Server(app, Settings(**settings))
    server.add_listener(listener)
    server.start()
    try:
        green.sleep(0)
        yield Hosted(server, app, listener.getsockname())
    finally:
        server.stop_accepting()
        server.drain(1.0)
        server.stop()
        listener.close()
