"""The HTTP routes: each takes typed arguments and calls a business function."""

from collections.abc import Iterator

from example_app import chat, notifications, orders, products
from example_app.chat import Entry, NewMessage
from example_app.notifications import Notification
from example_app.orders import NewOrder, Order, OrderChange
from example_app.products import NewProduct, Product
from example_app.service import app
from nucleon import Created, Events, Page, PageQuery, Patch


@app.post("/orders", idempotent=True)
def add_order(body: NewOrder) -> Created[Order]:
    """Place an order; repeated with its Idempotency-Key, it is placed once."""
    return Created(orders.add_order(body))


@app.get("/orders")
def list_orders(page: PageQuery, customer: str | None = None) -> Page[Order]:
    """List orders, oldest first."""
    return orders.list_orders(page, customer)


@app.get("/orders.ndjson")
def export_orders() -> Iterator[Order]:
    """Export all orders, one a line."""
    return orders.all_orders()


@app.get("/orders/{id}")
def read_order(id: int) -> Order:
    """Read an order."""
    return orders.read_order(id)


@app.get("/orders/{id}/notifications")
def list_notifications(id: int) -> list[Notification]:
    """List what the customer was told about an order."""
    return notifications.notifications_of(id)


@app.patch("/orders/{id}")
def change_order(id: int, body: Patch[OrderChange]) -> Order:
    """Change an order; what the body does not name stays as it is."""
    return orders.change_order(id, body)


@app.delete("/orders/{id}")
def remove_order(id: int) -> None:
    """Delete an order."""
    orders.remove_order(id)


@app.get("/products/{sku}")
def read_product(sku: str) -> Product:
    """Read a product; up to a minute old, up to eleven when the database is away."""
    return products.find_product(sku)


@app.put("/products/{sku}")
def put_product(sku: str, body: NewProduct) -> Product:
    """Store a product, new or changed."""
    return products.put_product(sku, body)


@app.get("/rooms/{room}/messages")
def listen(room: str) -> Events[Entry]:
    """Listen to a room: server-sent events for as long as the client stays."""
    return chat.listen(room)


@app.post("/rooms/{room}/messages", status=202)
def say(room: str, body: NewMessage) -> None:
    """Say something in a room."""
    chat.say(room, body)
