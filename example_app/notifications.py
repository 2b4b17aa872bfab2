"""What customers are told about their orders."""

from datetime import datetime

from example_app.service import db
from nucleon import Model

TEXTS = {"reserved": "Your order is on its way.", "short": "We are waiting for more stock."}


class Notification(Model):
    text: str
    created_at: datetime


def notify(order_id: int, outcome: str) -> None:
    """Tell the customer of an order what became of it, once."""
    statement = "insert into notifications (order_id, text) select id, %s from orders where id = %s on conflict do nothing"
    db.execute(statement, TEXTS[outcome], order_id)


def notifications_of(order_id: int) -> list[Notification]:
    """Return what was told about an order, oldest first."""
    return db.all(Notification, "select text, created_at from notifications where order_id = %s order by created_at", order_id)
