"""PostgreSQL and Valkey from wheels, for development and tests: no server to install, one pair for each project."""

from nucleon.embedded.project import Services, acquire, release
from nucleon.embedded.servers import EmbeddedServer, PostgresServer, ValkeyServer

__all__ = ["EmbeddedServer", "PostgresServer", "Services", "ValkeyServer", "acquire", "release"]
