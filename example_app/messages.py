"""The consumers: each takes a typed message and calls a business function. A message may come twice; the functions know."""

from example_app import notifications, stock
from example_app.events import EXCHANGE, OrderCreated, StockChecked
from example_app.service import app


@app.consume("stock.orders", exchange=EXCHANGE, key="order.created", concurrency=4)
def reserve_stock(body: OrderCreated) -> None:
    """Reserve stock for a new order."""
    stock.reserve(body.order_id)


@app.consume("notifications.orders", exchange=EXCHANGE, key="order.checked", concurrency=4)
def tell_customer(body: StockChecked) -> None:
    """Tell the customer what became of an order."""
    notifications.notify(body.order_id, body.outcome)
