"""Stock: reserved for an order once, whole or not at all."""

from example_app import events
from example_app.events import StockChecked
from example_app.service import db
from nucleon import Model


class Needed(Model):
    """A line of an order, with what is there."""

    sku: str
    quantity: int
    stock: int


def reserve(order_id: int) -> None:
    """Take what an order needs from the stock, or note that there is not enough. A second call changes nothing."""
    with db.transaction(retries=3):
        is_first = db.execute(
            "insert into reservations (order_id, outcome) select id, 'reserved' from orders where id = %s on conflict do nothing",
            order_id,
        )
        if not is_first:  # done already, or the order was deleted
            return
        needed = db.all(
            Needed,
            "select sku, quantity, stock from order_lines join products using (sku) where order_id = %s "
            "order by sku for update of products",
            order_id,
        )
        if any(line.stock < line.quantity for line in needed):
            db.execute("update reservations set outcome = 'short' where order_id = %s", order_id)
            events.record("order.checked", StockChecked(order_id=order_id, outcome="short"))
            return
        for line in needed:
            db.execute("update products set stock = stock - %s where sku = %s", line.quantity, line.sku)
        events.record("order.checked", StockChecked(order_id=order_id, outcome="reserved"))
