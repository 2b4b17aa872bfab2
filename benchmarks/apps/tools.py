"""A service with one route for each tool over Redis: `python tools.py PORT REDIS_URL`."""

import sys

from nucleon import green

green.patch()

import socket  # noqa: E402

from nucleon import App, Model  # noqa: E402
from nucleon.redis import Redis, Session, Sessions  # noqa: E402
from nucleon.secret import Secret  # noqa: E402
from nucleon.server import Server, Settings  # noqa: E402


class Message(Model):
    message: str


app = App("tools")
cache = app.use(Redis(url=Secret(sys.argv[2])))
tracked = app.use(Redis(url=Secret(sys.argv[2]), protocol=3, local_bytes=10_000_000), name="tracked")
messages = cache.of(Message, "message:{id}", ttl_seconds=3600)
Sessions(cache, Message).install(app)


@app.get("/json")
def greet() -> Message:
    return Message("Hello, world!")


@app.get("/get")
def get() -> Message:
    return Message((cache.get("nothing") or b"Hello, world!").decode())


@app.get("/kept", cache=cache.answers(ttl_seconds=3600))
def kept() -> Message:
    return Message("Hello, world!")


@app.get("/kept-local", cache=cache.answers(ttl_seconds=3600, local_seconds=1))
def kept_local() -> Message:
    return Message("Hello, world!")


@app.get("/typed")
def typed() -> Message:
    return messages.get_or(lambda id: Message("Hello, world!"), id=1)


@app.get("/kept-tracked", cache=tracked.answers(ttl_seconds=3600))
def kept_tracked() -> Message:
    return Message("Hello, world!")


@app.get("/get-tracked")
def get_tracked() -> Message:
    return Message((tracked.get("nothing") or b"Hello, world!").decode())


tracked_messages = tracked.of(Message, "message:{id}", ttl_seconds=3600)


@app.get("/typed-tracked")
def typed_tracked() -> Message:
    return tracked_messages.get_or(lambda id: Message("Hello, world!"), id=1)


@app.get("/limited", limits=cache.rate("all", 10**9, per_seconds=1, by="all"))
def limited() -> Message:
    return Message("Hello, world!")


@app.get("/session")
def session(session: Session[Message]) -> Message:
    return session.data or Message("Hello, world!")


if __name__ == "__main__":
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(1024)
    server = Server(app, Settings())
    server.add_listener(listener)
    server.serve_forever()
