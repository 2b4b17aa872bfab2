"""What happened, told to others through RabbitMQ: written with the change itself, published after it, never lost in between.

A process may die between its commit and its publish. So an event is a row of the same transaction (`record`), and a greenlet in each
worker publishes the rows and deletes them when RabbitMQ has them. One that dies in between publishes an event twice: who consumes
looks whether the work is done already.
"""

import logging
from typing import Any, Literal

import msgspec

from example_app.service import app, broker, db
from nucleon import Model, NucleonError, green
from nucleon.amqp import AmqpError, Confirm

EXCHANGE = "orders"
BATCH = 100
CONFIRM_SECONDS = 5.0
LOOK_SECONDS = 2.0  # what another worker left behind is found so much later

log = logging.getLogger("example_app")
_recorded = green.Event()
_publishing: "list[green.Greenlet[..., Any]]" = []


class OrderCreated(Model):
    order_id: int


class StockChecked(Model):
    order_id: int
    outcome: Literal["reserved", "short"]


class Row(Model):
    """An event that waits."""

    id: int
    routing_key: str
    body: Any


def record(routing_key: str, event: Model) -> None:
    """Note an event inside the transaction that it tells of."""
    db.execute("insert into events (routing_key, body) values (%s, %s)", routing_key, msgspec.json.encode(event).decode())
    db.after_commit(_recorded.set)


def publish_recorded() -> int:
    """Publish what waits, oldest first, and return how many events RabbitMQ took. Each worker takes others.

    Raises what keeps all of them from leaving. An event that no queue takes stays: its consumer has not run yet.
    """
    with db.transaction():
        rows = db.all(Row, "select id, routing_key, body from events order by id limit %s for update skip locked", BATCH)
        exchange = broker.exchange(EXCHANGE)
        sent = [(row.id, exchange.publish_async(row.routing_key, row.body, mandatory=True, message_id=f"event-{row.id}")) for row in rows]
        taken = [id for id, confirm in sent if _is_taken(confirm)]
        db.execute("delete from events where id = any(%s)", taken)
        return len(taken)


def _is_taken(confirm: Confirm) -> bool:
    try:
        confirm.wait(CONFIRM_SECONDS)
    except AmqpError as error:
        log.warning("an event waits: %s", error)
        return False
    return True


def _publish_for_ever() -> None:
    while True:
        _recorded.clear()
        try:
            while publish_recorded():
                pass
        except NucleonError as error:  # the database or the broker is away: the events wait
            log.warning("events wait: %s", error)
            green.sleep(LOOK_SECONDS)
        _recorded.wait(LOOK_SECONDS)


@app.on_start
def start_publishing() -> None:
    """Publish in this worker, when a broker is configured."""
    if broker.settings.url is not None:
        _publishing.append(green.spawn(_publish_for_ever))


@app.on_stop
def stop_publishing() -> None:
    """Publish no more; what waits is published by another worker, or after the next start."""
    while _publishing:
        _publishing.pop().kill()
