"""Rooms that people talk in. Messages go through Redis, so people meet whichever worker or machine serves them.

In each worker one greenlet receives everything and puts it into the bounded queues of the people who listen; every listener's
own greenlet empties its queue. Nobody waits for a slow listener: when a queue is full, the listener is dropped and told so.
"""

import queue
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from example_app.service import app, cache
from nucleon import Len, Model, Unavailable, green

QUEUE_LENGTH = 100
KEEP_ALIVE_SECONDS = 15  # proxies cut connections that stay silent for long
RECONNECT_SECONDS = 0.5


class NewMessage(Model):
    author: Annotated[str, Len(1, 40)]
    text: Annotated[str, Len(1, 2000)]


class Entry(Model):
    """What a listener receives. `joined` comes first, `dropped` last: the listener was too slow and has missed messages."""

    kind: Literal["joined", "message", "idle", "dropped"]
    author: str = ""
    text: str = ""
    at: datetime | None = None


class Listener:
    """One who listens, and what is still to be sent there."""

    def __init__(self) -> None:
        self.waiting: green.Queue[Entry] = green.Queue(QUEUE_LENGTH)
        self.dropped = False


listeners: defaultdict[str, set[Listener]] = defaultdict(set)


def say(room: str, message: NewMessage) -> None:
    """Tell everybody in the room."""
    entry = Entry("message", message.author, message.text, datetime.now(UTC))
    cache.publish(f"chat:{room}", msgspec.json.encode(entry))


def listen(room: str) -> Iterator[Entry]:
    """Yield what is said in the room from now on."""
    listener = Listener()
    listeners[room].add(listener)
    try:
        yield Entry("joined")
        while len(listener.waiting) or not listener.dropped:
            try:
                yield listener.waiting.get(KEEP_ALIVE_SECONDS)
            except queue.Empty:
                yield Entry("idle")
        yield Entry("dropped")
    finally:
        leave(room, listener)


def leave(room: str, listener: Listener) -> None:
    """Forget a listener, and the room with its last one."""
    listeners[room].discard(listener)
    if not listeners[room]:
        del listeners[room]


def deliver(room: str, entry: Entry) -> None:
    """Queue an entry for everybody who listens in this worker; drop those whose queue is full."""
    for listener in tuple(listeners.get(room, ())):
        try:
            listener.waiting.put_nowait(entry)
        except queue.Full:
            listener.dropped = True
            leave(room, listener)


def relay() -> None:
    """Carry messages from Redis to the listeners of this worker; connect again when Redis was away."""
    while True:
        try:
            with cache.pubsub(ignore_subscribe_messages=True) as subscription:
                subscription.psubscribe("chat:*")
                for message in subscription.listen():  # type: ignore[no-untyped-call]
                    deliver(message["channel"].decode().removeprefix("chat:"), msgspec.json.decode(message["data"], type=Entry))
        except Unavailable:
            green.sleep(RECONNECT_SECONDS)


_relays: list["green.Greenlet[..., None]"] = []


@app.on_start
def open_rooms() -> None:
    """Start the relay of this worker."""
    _relays.append(green.spawn(relay))


@app.on_stop
def close_rooms() -> None:
    """Stop the relay."""
    while _relays:
        _relays.pop().kill()
