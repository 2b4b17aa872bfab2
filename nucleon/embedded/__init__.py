"""PostgreSQL and Valkey from wheels, RabbitMQ from Debian's packages: for development and tests, no server to install."""

from nucleon.embedded.project import Services, acquire, release
from nucleon.embedded.rabbitmq import RabbitServer, running_rabbitmq
from nucleon.embedded.servers import EmbeddedServer, PostgresServer, ValkeyServer

__all__ = ["EmbeddedServer", "PostgresServer", "RabbitServer", "Services", "ValkeyServer", "acquire", "release", "running_rabbitmq"]
