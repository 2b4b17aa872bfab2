"""The same service on nucleon: `python ours.py PORT bare|app` serves it with our server."""

import os
import sys

from nucleon import green

green.patch()

import socket  # noqa: E402
from random import randint, sample  # noqa: E402
from typing import Any  # noqa: E402

ONE = "select id, number from bench_world where id = %s"
UPDATE = "update bench_world w set number = v.number from unnest(%s::int[], %s::int[]) v (id, number) where w.id = v.id"


def application() -> Any:
    from nucleon import App, Request
    from nucleon.message import Model

    class Message(Model):
        message: str

    class Order(Model):
        customer: str
        note: str
        lines: list[int]

    class Item(Model):
        id: int
        limit: int
        search: str

    class Size(Model):
        size: int

    app = App("benchmark")
    settings: dict[str, Any] = {}
    if os.environ.get("BENCH_POSTGRES"):
        add_database(app, settings)
    if os.environ.get("BENCH_REDIS"):
        add_cache(app, settings)

    @app.get("/json")
    def greet() -> Message:
        return Message("Hello, world!")

    @app.get("/items/{item_id}")
    def read(item_id: int, limit: int = 10, search: str = "") -> Item:
        return Item(item_id, limit, search)

    @app.post("/echo", status=200)
    def echo(body: Order) -> Order:
        return body

    @app.post("/upload", status=200)
    def upload(request: Request) -> Size:
        return Size(len(request.body()))

    app.configure(settings)
    return app


def add_database(app: Any, settings: dict[str, Any]) -> None:
    from nucleon.message import Model
    from nucleon.postgres import Postgres, Settings
    from nucleon.secret import Secret

    class Number(Model):
        id: int
        number: int

    class Fortune(Model):
        id: int
        message: str

    db = app.use(Postgres())
    settings["postgres"] = Settings(dsn=Secret(os.environ["BENCH_POSTGRES"]))

    @app.get("/db")
    def one() -> Number:
        return db.one(Number, ONE, randint(1, 10000))

    @app.get("/queries")
    def queries(n: int = 1) -> list[Number]:
        return [db.one(Number, ONE, randint(1, 10000)) for _ in range(n)]

    @app.get("/updates")
    def updates(n: int = 1) -> list[Number]:
        numbers = [db.one(Number, ONE, key) for key in sorted(sample(range(1, 10001), n))]
        for each in numbers:
            each.number = randint(1, 10000)
        db.execute(UPDATE, [each.id for each in numbers], [each.number for each in numbers])
        return numbers

    @app.get("/fortunes")
    def fortunes() -> list[Fortune]:
        found = db.all(Fortune, "select id, message from bench_fortunes")
        found.append(Fortune(0, "added while the request is answered"))
        found.sort(key=lambda fortune: fortune.message)
        return found


def add_cache(app: Any, settings: dict[str, Any]) -> None:
    from nucleon.redis import Redis, Settings
    from nucleon.secret import Secret

    cache = app.use(Redis())
    settings["redis"] = Settings(url=Secret(os.environ["BENCH_REDIS"]))

    @app.get("/cached")
    def cached() -> dict[str, str]:
        return {"message": (cache.get("benchmark") or b"nothing").decode()}


if __name__ == "__main__":
    from nucleon.server import Server, Settings

    if sys.argv[2] == "bare":
        from bare import app
    else:
        app = application()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(1024)
    server = Server(app, Settings())
    server.add_listener(listener)
    server.serve_forever()
