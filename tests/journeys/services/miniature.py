"""A service small enough to read at a glance, with one route for each thing that the journeys try."""

import os
from collections.abc import Iterator
from typing import Annotated

from nucleon import App, Conflict, Created, Len, Min, Model, green
from nucleon.postgres import Postgres

app = App("miniature")
db = app.use(Postgres())


class Line(Model):
    sku: Annotated[str, Len(1, 20)]
    quantity: Annotated[int, Min(1)]


class NewOrder(Model):
    customer: Annotated[str, Len(1, 40)]
    lines: list[Line]


class Order(NewOrder):
    id: int


class NewName(Model):
    name: str


class Name(NewName):
    id: int


@app.get("/")
def greet() -> dict[str, str]:
    return {"message": "hello"}


@app.get("/pid")
def pid() -> dict[str, int]:
    return {"pid": os.getpid()}


@app.post("/orders")
def add_order(body: NewOrder) -> Created[Order]:
    return Created(Order(id=1, customer=body.customer, lines=body.lines))


@app.get("/orders/{id}")
def read_order(id: int) -> Order:
    return Order(id=id, customer="c-17", lines=[Line(sku="A-1", quantity=2)])


@app.post("/names")
def add_name(body: NewName) -> Created[Name]:
    return Created(db.one(Name, "insert into names (name) values (%s) returning id, name", body.name))


@app.get("/names/{id}")
def read_name(id: int) -> Name:
    return db.one(Name, "select id, name from names where id = %s", id)


@app.get("/hold")
def hold() -> dict[str, int]:
    return {"value": db.value(int, "select 1 from pg_sleep(0.05)")}


@app.get("/slow/{seconds}")
def slow(seconds: float) -> dict[str, float]:
    green.sleep(seconds)
    return {"slept": seconds}


@app.get("/numbers/{count}")
def numbers(count: int) -> Iterator[dict[str, int]]:
    for number in range(count):
        yield {"n": number}


@app.get("/raise")
def fail() -> None:
    raise RuntimeError("the cause that only the log may tell")


@app.get("/conflict")
def conflict() -> None:
    raise Conflict("somebody was faster")
