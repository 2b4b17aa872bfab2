"""A RabbitMQ in memory for tests, on the client's own codec; one suite of tests runs over it and over RabbitMQ."""

from nucleon.testing.broker.fake import FakeBroker
from nucleon.testing.broker.faults import Faults

__all__ = ["FakeBroker", "Faults"]
