"""The server: accept, one connection, one exchange; parked greenlets, one coarse timer, drained gracefully."""

from nucleon.server.server import Server
from nucleon.server.settings import Settings
from nucleon.server.tls import certificate_of

__all__ = ["Server", "Settings", "certificate_of"]
