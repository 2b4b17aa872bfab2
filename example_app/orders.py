"""What can be done with orders. A row that is missing is a `NotFound`, a broken constraint a `Conflict` or `Invalid`."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Literal

from example_app import events
from example_app.events import OrderCreated
from example_app.service import db
from nucleon import Conflict, Len, Min, Model, NotFound, Page, PageQuery


class Line(Model):
    sku: Annotated[str, Len(1, 40)]
    quantity: Annotated[int, Min(1)]


class NewOrder(Model):
    customer: Annotated[str, Len(1, 80)]
    lines: Annotated[list[Line], Len(1, 100)]
    note: str | None = None


class OrderChange(Model):
    customer: Annotated[str, Len(1, 80)]
    status: Literal["open", "paid", "closed"]
    note: str | None


class Order(Model):
    id: int
    customer: str
    status: Literal["open", "paid", "closed"]
    note: str | None
    version: int
    created_at: datetime
    lines: list[Line]


class OrderClosed(Conflict):
    """A closed order is not changed any more."""

    order_id: int


def add_order(new: NewOrder) -> Order:
    """Store an order with its lines and the event that tells of it, all or nothing."""
    with db.transaction():
        id = db.value("insert into orders (customer, note) values (%s, %s) returning id", new.customer, new.note)
        for line in new.lines:
            db.execute("insert into order_lines (order_id, sku, quantity) values (%s, %s, %s)", id, line.sku, line.quantity)
        events.record("order.created", OrderCreated(order_id=id))
        return read_order(id)


def read_order(id: int) -> Order:
    """Return an order."""
    return db.one(Order, "select * from order_documents where id = %s", id)


def change_order(id: int, changes: Mapping[str, object]) -> Order:
    """Change some fields of an order that is not closed. changes: names and values as in `OrderChange`."""
    with db.transaction():
        order = db.one(Order, "select * from order_documents where id = %s for update", id)
        if order.status == "closed":
            raise OrderClosed(f"order {id} is closed", order_id=id)
        values = {"customer": order.customer, "status": order.status, "note": order.note, **changes}
        db.execute(
            "update orders set customer = %(customer)s, status = %(status)s, note = %(note)s, version = version + 1 where id = %(id)s",
            id=id,
            **values,
        )
        return read_order(id)


def remove_order(id: int) -> None:
    """Delete an order and its lines."""
    db.delete("orders", id=id)


def list_orders(page: PageQuery, customer: str | None = None) -> Page[Order]:
    """Return one page of all orders, or of a customer's, oldest first."""
    wanted = "select * from order_documents where %(customer)s::text is null or customer = %(customer)s"
    return db.page(Order, page, wanted, customer=customer, order="id")


def all_orders() -> Iterator[Order]:
    """Yield every order from a server-side cursor: memory stays flat, however many there are."""
    yield from db.stream(Order, "select * from order_documents order by id")


def close_stale_orders(days: int) -> int:
    """Close the orders that were open for `days` or longer; return how many.

    A batch: `nucleon run example_app:close_stale_orders --days 30`. It changes orders as a PATCH does.
    """
    closed = 0
    for id in db.values("select id from orders where status = 'open' and created_at <= now() - make_interval(days => %s)", days):
        with suppress(OrderClosed, NotFound):  # somebody was quicker
            change_order(id, {"status": "closed"})
            closed += 1
    return closed
