"""Rooms that people talk in. Messages go through Redis, so people meet whichever worker or machine serves them.

Each worker hears Redis over one connection, the hub's; every listener has a bounded queue there, which its own greenlet empties.
Nobody waits for a slow listener: when its queue is full, the listener is dropped and told so.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Literal

from example_app.service import cache
from nucleon import Len, Model
from nucleon.redis import Gap, SubscriptionClosed

QUEUE_LENGTH = 100
KEEP_ALIVE_SECONDS = 15  # proxies cut connections that stay silent for long


class NewMessage(Model):
    author: Annotated[str, Len(1, 40)]
    text: Annotated[str, Len(1, 2000)]


class Entry(Model):
    """What a listener receives.

    `joined` comes first. `gap`: the connection to Redis was lost for a while, and messages may be missing. `dropped` comes last: the
    listener was too slow and has missed messages.
    """

    kind: Literal["joined", "message", "idle", "gap", "dropped"]
    author: str = ""
    text: str = ""
    at: datetime | None = None


rooms = cache.topic(Entry, "chat:{room}")


def say(room: str, message: NewMessage) -> None:
    """Tell everybody in the room."""
    rooms.publish(Entry("message", message.author, message.text, datetime.now(UTC)), room=room)


def listen(room: str) -> Iterator[Entry]:
    """Yield what is said in the room from now on."""
    with rooms.subscribe(room=room, maximum=QUEUE_LENGTH, overflow="close") as heard:
        yield Entry("joined")
        try:
            while True:
                entry = heard.get(KEEP_ALIVE_SECONDS)
                if entry is None:
                    yield Entry("idle")
                elif isinstance(entry, Gap):
                    yield Entry("gap")
                else:
                    yield entry
        except SubscriptionClosed:
            if heard.is_overrun:
                yield Entry("dropped")
