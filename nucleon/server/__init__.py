"""The server: accept, one connection, one exchange; parked greenlets, one coarse timer, drained gracefully."""

from nucleon.server.server import Server
from nucleon.server.settings import Settings

__all__ = ["Server", "Settings"]
