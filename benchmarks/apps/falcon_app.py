"""The same service on Falcon (WSGI): for gunicorn's gevent worker and for Granian."""

import os
import queue
from random import randint, sample

import falcon
import redis

ONE = "select id, number from bench_world where id = %s"
UPDATE = "update bench_world w set number = v.number from unnest(%s::int[], %s::int[]) v (id, number) where w.id = v.id"


class Greet:
    def on_get(self, _request, response):
        response.media = {"message": "Hello, world!"}


class Item:
    def on_get(self, request, response, item_id):
        limit = request.get_param_as_int("limit", default=10)
        response.media = {"id": item_id, "limit": limit, "search": request.get_param("search", default="")}


class Echo:
    def on_post(self, request, response):
        response.media = request.get_media()


class Upload:
    def on_post(self, request, response):
        response.media = {"size": len(request.bounded_stream.read())}


class Database:
    """Ten connections, made when first needed, shared through a queue."""

    def __init__(self):
        self.free = queue.LifoQueue()
        for _ in range(10):
            self.free.put(None)

    def run(self, sql, *args):
        import psycopg2

        connection = self.free.get()
        try:
            if connection is None:
                import psycogreen.gevent

                psycogreen.gevent.patch_psycopg()
                connection = psycopg2.connect(os.environ["BENCH_POSTGRES"])
                connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, args)
                names = [column.name for column in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] if names else []
        finally:
            self.free.put(connection)


database = Database()
cache = redis.from_url(os.environ.get("BENCH_REDIS") or "redis://127.0.0.1:1")


class One:
    def on_get(self, _request, response):
        response.media = database.run(ONE, randint(1, 10000))[0]


class Queries:
    def on_get(self, request, response):
        response.media = [database.run(ONE, randint(1, 10000))[0] for _ in range(request.get_param_as_int("n", default=1))]


class Updates:
    def on_get(self, request, response):
        count = request.get_param_as_int("n", default=1)
        numbers = [database.run(ONE, key)[0] for key in sorted(sample(range(1, 10001), count))]
        for each in numbers:
            each["number"] = randint(1, 10000)
        database.run(UPDATE, [each["id"] for each in numbers], [each["number"] for each in numbers])
        response.media = numbers


class Fortunes:
    def on_get(self, _request, response):
        found = database.run("select id, message from bench_fortunes")
        found.append({"id": 0, "message": "added while the request is answered"})
        response.media = sorted(found, key=lambda fortune: fortune["message"])


class Cached:
    def on_get(self, _request, response):
        response.media = {"message": (cache.get("benchmark") or b"nothing").decode()}


app = falcon.App()
RESOURCES = {
    "json": Greet, "echo": Echo, "upload": Upload, "db": One, "queries": Queries, "updates": Updates, "fortunes": Fortunes,
    "cached": Cached,
}  # fmt: skip
for path, resource in RESOURCES.items():
    app.add_route("/" + path, resource())
app.add_route("/items/{item_id:int}", Item())
