"""Pub/sub for a whole worker over one connection: any number of subscribers, each with a bounded queue.

One greenlet owns the connection. Subscribers only change what is wanted and nudge it with a message to a channel of its own; it
compares what is wanted with what it has asked for. So nobody can be killed in the middle of a write to the shared connection.
"""

import logging
import os
import random
import secrets
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from gevent import getcurrent  # to know one's own greenlet; nucleon.green does not hand it out
from redis.exceptions import NoPermissionError, RedisError

from nucleon import green
from nucleon.errors import DeadlineExceeded, SetupError, Unavailable
from nucleon.redis.grace import spawn_apart
from nucleon.redis.scripts import Commands
from nucleon.redis.subscriptions import Message, Overflow, Subscription

T = TypeVar("T")
Name = tuple[str, str]
"""("channel" or "pattern", its text)."""
log = logging.getLogger("nucleon.redis")


class Client(Commands, Protocol):
    """What the hub needs of a client."""

    def raw_pubsub(self) -> Any: ...


_all: "WeakSet[Hub]" = WeakSet()


def _forget_all() -> None:
    for hub in list(_all):
        hub._forget()


os.register_at_fork(after_in_child=_forget_all)


class _Place:
    """A channel or pattern that somebody wants."""

    __slots__ = ("confirmed", "has_gap", "refusal", "subscribers")

    def __init__(self) -> None:
        self.subscribers: set[Subscription[Any]] = set()
        self.confirmed = green.Event()
        self.has_gap = False
        self.refusal: NoPermissionError | None = None

    def refuse(self, refusal: NoPermissionError) -> None:
        """Tell who waits for the confirmation, and end who had it before."""
        self.refusal = refusal
        self.confirmed.set()
        for subscription in tuple(self.subscribers):
            subscription.end()


class Hub:
    """Subscriptions of one worker. It connects with the first subscriber and lets go some seconds after the last.

    A lost connection is made again with back-off; every subscriber then finds a `Gap` in its queue where messages may be missing.
    """

    PATIENCE_SECONDS = 5.0  # for a subscription to be confirmed, and for an answer to PING
    PING_SECONDS = 10.0  # of silence before the server is asked whether it is still there
    TICK_SECONDS = 1.0  # a nudge that was lost is noticed after this
    IDLE_SECONDS = 10.0  # without subscribers before the connection is given back
    LONGEST_PAUSE_SECONDS = 2.0  # between two attempts to connect
    MESSAGES_IN_A_TURN = 100  # then the other greenlets run, however many more have come

    def __init__(self, client: Client) -> None:
        _all.add(self)
        self._client = client
        self._control = ""
        self._places: dict[Name, _Place] = {}
        self._changed: dict[Name, None] = {}  # wanted or left since the keeper looked; in order
        self._asked: set[Name] = set()
        self._questions: deque[Name] = deque()  # asked for and not yet confirmed, in order
        self._unconfirmed: dict[Name, int] = {}  # how often each is among them
        self._keeper: green.Greenlet[..., Any] | None = None
        self._is_nudged = False
        self.is_connected = self._is_away = False
        self.reconnects = 0

    def publish(self, channel: str, data: bytes | str) -> int:
        """Publish; return how many connections of the whole system received it. Raises `Unavailable`, `DeadlineExceeded`."""
        return int(self._client.execute_command("PUBLISH", channel, data))

    def subscribe(
        self, *channels: str, maximum: int = 1000, maximum_bytes: int = 16_777_216, overflow: Overflow = "drop_oldest"
    ) -> Subscription[Message]:
        """Return what is published to these channels from now on: when this returns, Redis has confirmed.

        Raises `Unavailable` when Redis does not confirm in time, `DeadlineExceeded` at the deadline, redis-py's `NoPermissionError` when
        the ACL of the user does not have the channel, or those of the hub (`nucleon:hub:*`).
        """
        names = [("channel", channel) for channel in channels]
        return self.join(names, _as_it_is, maximum=maximum, maximum_bytes=maximum_bytes, overflow=overflow)

    def psubscribe(
        self, *patterns: str, maximum: int = 1000, maximum_bytes: int = 16_777_216, overflow: Overflow = "drop_oldest"
    ) -> Subscription[Message]:
        """As `subscribe`, for patterns such as `"chat:*"` (PSUBSCRIBE)."""
        names = [("pattern", pattern) for pattern in patterns]
        return self.join(names, _as_it_is, maximum=maximum, maximum_bytes=maximum_bytes, overflow=overflow)

    def join(
        self, names: list[Name], read: Callable[[Message], T], *, maximum: int, maximum_bytes: int, overflow: Overflow
    ) -> Subscription[T]:
        """Subscribe to channels and patterns, with a function that reads the messages. Raises `SetupError` when there are none."""
        if not names or not all(isinstance(text, str) for _, text in names):
            raise SetupError(f"subscribe to at least one channel or pattern, each a str, not to {[text for _, text in names]!r}")
        subscription: Subscription[T] = Subscription(
            read, lambda: self._leave(names, subscription), maximum=maximum, maximum_bytes=maximum_bytes, overflow=overflow
        )
        places = [self._places.setdefault(name, _Place()) for name in names]
        self._changed.update(dict.fromkeys(names))
        for place in places:
            place.subscribers.add(subscription)
        try:
            self._begin()
            for place in places:
                if not place.confirmed.is_set():
                    self._nudge()
                if not place.confirmed.wait(self.PATIENCE_SECONDS):
                    raise Unavailable("Redis did not confirm the subscription")
                if place.refusal is not None:
                    raise place.refusal.with_traceback(None)
        except BaseException:
            subscription.close()
            raise
        return subscription

    def stop(self) -> None:
        """End every subscription and give the connection back. A later `subscribe` begins anew."""
        keeper, self._keeper = self._keeper, None
        for place in list(self._places.values()):
            for subscription in tuple(place.subscribers):
                subscription.end()
        self._lose()
        self.is_connected = False
        if keeper is not None:
            keeper.kill()

    def _leave(self, names: list[Name], subscription: Subscription[Any]) -> None:
        for name in names:
            place = self._places.get(name)
            if place is not None:
                place.subscribers.discard(subscription)
                if not place.subscribers and name not in self._asked:
                    del self._places[name]
                elif not place.subscribers:
                    self._changed[name] = None  # the keeper unsubscribes first

    def _forget(self) -> None:
        """In a forked child: leave the parent's connection alone, before anything is read from it, and begin without subscribers."""
        keeper, self._keeper = self._keeper, None
        self._places = {}  # who waits in the copies of the parent's greenlets is not woken
        self._lose()
        self.is_connected = False
        if keeper is not None:
            keeper.kill(block=False)

    def _begin(self) -> None:
        if self._keeper is None or self._keeper.dead:
            self._lose()
            self.is_connected = False
            self._keeper = spawn_apart(self._keep)

    def _nudge(self) -> None:
        if self.is_connected and not self._is_nudged:
            self._is_nudged = True
            with suppress(Unavailable):  # then the connection of the keeper is about to be lost too, or the next tick does
                self._client.execute_command("PUBLISH", self._control, b"")

    # What follows runs in the keeper's greenlet.

    def _keep(self) -> None:
        pause = 0.02
        while True:
            try:
                with self._client.raw_pubsub() as pubsub:
                    self._serve(pubsub)
            except NoPermissionError as error:
                log.error("the hub may not hear its own channel: the ACL of the user needs &nucleon:hub:* (%s)", error)
                for place in list(self._places.values()):
                    place.refuse(error)
            except (Unavailable, DeadlineExceeded, RedisError) as error:
                if not self._is_away:
                    self._is_away = True
                    log.warning("the hub has lost Redis, and connects again: %s (%s)", error, error.__cause__ or type(error).__name__)
            except Exception:
                if self._keeper is getcurrent():
                    log.exception("the hub failed and connects again")
            if self._keeper is not getcurrent():  # stopped, or forked: another may be at work
                return
            was_connected, self.is_connected = self.is_connected, False
            self._lose()
            if not self._places:  # nobody came while the connection was given back
                return
            pause = 0.02 if was_connected else min(pause * 2, self.LONGEST_PAUSE_SECONDS)
            green.sleep(pause * random.uniform(0.5, 1))

    def _lose(self) -> None:
        self._asked.clear()
        self._questions.clear()
        self._unconfirmed.clear()
        self._is_nudged = False
        for name, place in list(self._places.items()):
            place.has_gap = place.has_gap or place.confirmed.is_set()
            place.confirmed.clear()
            if not place.subscribers:
                del self._places[name]
        self._changed = dict.fromkeys(self._places)

    def _serve(self, pubsub: Any) -> None:
        """Carry messages until nobody subscribes any more. Raises when the connection is lost."""
        self._control = f"nucleon:hub:{secrets.token_hex(8)}"  # made here: what is made at import is the same in every forked worker
        pubsub.subscribe(self._control)
        heard = wanted = monotonic()
        is_asked, taken = False, 0
        while True:
            self._reconcile(pubsub)
            try:
                message = pubsub.get_message(timeout=self.TICK_SECONDS)
            except NoPermissionError as error:
                if not self._questions:
                    raise
                self._refuse(pubsub, error)
                continue
            now = monotonic()
            if self._places:
                wanted = now
            elif now - wanted > self.IDLE_SECONDS:
                return
            if message is not None:
                heard, is_asked = now, False
                self._take(message)
                taken += 1
                if taken % self.MESSAGES_IN_A_TURN == 0:
                    green.sleep(0)  # what has come already is read without waiting: a flood would keep everybody else from running
            elif now - heard > self.PING_SECONDS + self.PATIENCE_SECONDS:
                raise Unavailable("the server is silent")
            elif now - heard > self.PING_SECONDS and not is_asked:
                is_asked = True
                pubsub.ping()

    def _reconcile(self, pubsub: Any) -> None:
        if not self.is_connected:
            return  # what is wanted is asked for after the control channel is confirmed
        self._is_nudged = False
        if not self._changed:
            return
        changed, self._changed = self._changed, {}
        joined = [name for name in changed if name in self._places and name not in self._asked]
        left = [name for name in changed if name in self._asked and not self._places[name].subscribers]
        # noted before it is asked: a question may wait for a slow server, and who comes or goes meanwhile is seen the next time
        self._asked.update(joined)
        self._asked.difference_update(left)
        for name in left:
            del self._places[name]
        for number, name in enumerate(joined, 1):
            self._unconfirmed[name] = self._unconfirmed.get(name, 0) + 1
            self._questions.append(name)
            kind, text = name
            (pubsub.subscribe if kind == "channel" else pubsub.psubscribe)(text)  # each alone: one may be refused
            if number % self.MESSAGES_IN_A_TURN == 0:
                green.sleep(0)
        for ask, kind in (pubsub.unsubscribe, "channel"), (pubsub.punsubscribe, "pattern"):
            texts = [text for one, text in left if one == kind]
            if texts:
                ask(*texts)

    def _take(self, received: dict[str, Any]) -> None:
        kind, channel, data = received["type"], _text(received["channel"]), received["data"]
        if kind in ("message", "pmessage"):
            if channel == self._control:
                return
            pattern = None if kind == "message" else _text(received["pattern"])
            place = self._places.get(("channel", channel) if pattern is None else ("pattern", pattern))
            message = Message(channel, data, pattern)
            for subscription in tuple(place.subscribers) if place is not None else ():
                subscription.put(message)
        elif kind in ("subscribe", "psubscribe"):
            self._confirm(("channel" if kind == "subscribe" else "pattern", channel))

    def _confirm(self, name: Name) -> None:
        if name == ("channel", self._control):
            if self.is_connected:  # a second time: the client below has connected again by itself
                self._gap_everywhere()
                self._questions.clear()
                self._unconfirmed.clear()
            self.reconnects += 1
            self.is_connected = True
            if self._is_away:
                self._is_away = False
                log.warning("the hub hears Redis again; where messages may be missing, subscribers find a Gap")
            return
        if self._questions and self._questions[0] == name:
            self._questions.popleft()
        place = self._places.get(name)
        if not self._is_last_answer(name) or place is None or name not in self._asked:
            return
        if place.has_gap:
            place.has_gap = False
            for subscription in tuple(place.subscribers):
                subscription.put_gap()
        place.confirmed.set()

    def _refuse(self, pubsub: Any, error: NoPermissionError) -> None:
        """The first of what was asked for may not be heard: who wanted it is told, nobody else notices."""
        name = self._questions.popleft()
        if not self._is_last_answer(name) or name not in self._asked:
            return
        self._asked.discard(name)
        self._places.pop(name).refuse(error)
        kind, text = name
        (pubsub.unsubscribe if kind == "channel" else pubsub.punsubscribe)(text)  # so that redis-py does not ask again when it reconnects

    def _is_last_answer(self, name: Name) -> bool:
        """Count an answer. False: it is to a question before the channel was left and asked for again."""
        to_come = self._unconfirmed.pop(name, 1) - 1
        if to_come > 0:
            self._unconfirmed[name] = to_come
        return to_come <= 0

    def _gap_everywhere(self) -> None:
        for place in self._places.values():
            for subscription in tuple(place.subscribers):
                subscription.put_gap()

    def __repr__(self) -> str:
        subscribers = {one for place in self._places.values() for one in place.subscribers}
        state = "connected" if self.is_connected else "not connected"
        return f"<Hub {state}: {len(subscribers)} subscribers of {len(self._places)} channels, connected {self.reconnects} times>"


def _as_it_is(message: Message) -> Message:
    return message


def _text(name: bytes | str | None) -> str:
    return name.decode(errors="surrogateescape") if isinstance(name, bytes) else name or ""
