"""RabbitMQ (AMQP 0-9-1) with plain calls on greenlets. See docs/amqp.md."""
