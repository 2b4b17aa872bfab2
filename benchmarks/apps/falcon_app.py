"""The same service on Falcon (WSGI): for gunicorn's gevent worker and for Granian."""

import os
import queue

import falcon
import redis


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

    def one(self, sql, *args):
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
                found = cursor.fetchone()
        finally:
            self.free.put(connection)
        return {"id": found[0], "name": found[1]}


database = Database()
cache = redis.from_url(os.environ.get("BENCH_REDIS") or "redis://127.0.0.1:1")


class Row:
    def on_get(self, _request, response):
        response.media = database.one("select 1 as id, 'one' as name")


class Rows:
    def on_get(self, _request, response):
        response.media = [database.one("select %s::int as id, 'one' as name", number) for number in range(20)]


class Cached:
    def on_get(self, _request, response):
        response.media = {"message": (cache.get("benchmark") or b"nothing").decode()}


app = falcon.App()
for path, resource in {"json": Greet, "echo": Echo, "upload": Upload, "row": Row, "rows": Rows, "cached": Cached}.items():
    app.add_route("/" + path, resource())
app.add_route("/items/{item_id:int}", Item())
