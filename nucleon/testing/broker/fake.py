"""`FakeBroker`: a RabbitMQ in the test's own process, on a real socket, for the client that the program uses anyway."""

import secrets
import socket
from time import monotonic
from types import TracebackType
from typing import Any
from urllib.parse import quote

from nucleon.amqp.codec import methods
from nucleon.green import Event, Greenlet, listen, spawn
from nucleon.testing.broker.channel import REPLY_TO, Channel
from nucleon.testing.broker.faults import Faults
from nucleon.testing.broker.messages import Message
from nucleon.testing.broker.queues import Queue
from nucleon.testing.broker.refusal import CONNECTION_FORCED, NOT_ALLOWED, Refusal
from nucleon.testing.broker.session import Session
from nucleon.testing.broker.vhost import VHost

BACKLOG = 128


class FakeBroker:
    """A broker in memory. Use it with `with`; connect to `broker.url`.

    Direct, fanout, topic and headers exchanges, classic and quorum queues, streams, confirms, returns, prefetch, redelivery,
    dead letters, times to live, delivery limits, lengths, priorities, exclusive, auto-delete and expiring queues, transactions, direct
    reply-to, alarms.

        with FakeBroker() as broker:
            app.configure({"amqp": AmqpSettings(url=Secret(broker.url))})

    user, password: what clients must say. `faults`: what is to go wrong.
    """

    def __init__(self, *, user: str = "guest", password: str = "guest") -> None:
        self.user = user
        self.password = password
        self.faults = Faults()
        self.alarm = ""
        self.sessions: list[Session] = []
        self._vhosts: dict[str, VHost] = {}
        self._skipped_seconds = 0.0
        self._timed = Event()
        self._calm = Event()
        self._calm.set()
        self._listener: socket.socket | None = None
        self._greenlets: list[Greenlet[..., Any]] = []
        self._number = self._port = 0
        self._reply_secret = secrets.token_hex(8)
        self._vhosts["/"] = VHost("/", self.now, self._timed.set)

    def __enter__(self) -> "FakeBroker":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        assert self._listener is not None, "the fake broker is not started"
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """The address with user and password, of the virtual host "/"."""
        return self.url_of("/")

    def url_of(self, vhost: str) -> str:
        """Make a virtual host when it is not there and return its address."""
        if vhost not in self._vhosts:
            self._vhosts[vhost] = VHost(vhost, self.now, self._timed.set)
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def vhost(self, name: str) -> VHost:
        """Return a virtual host; refuses with 530."""
        if name not in self._vhosts:
            raise Refusal(NOT_ALLOWED, f"vhost {name} not found")
        return self._vhosts[name]

    def queue(self, name: str, vhost: str = "/") -> Queue:
        """Return a queue, to look at: `len(queue)`, `queue.ready`, `queue.unacked`, `queue.consumers`. Refuses with 404."""
        queues = self.vhost(vhost).queues
        return queues[name] if name in queues else self.vhost(vhost).queue(name, None)

    def start(self) -> None:
        """Listen; after `stop` on the same port, and without the messages of before."""
        self._listener = listen(("127.0.0.1", self._port), BACKLOG)
        self._port = self.port
        self._greenlets = [spawn(self._accept, self._listener), spawn(self._expire)]

    def stop(self) -> None:
        """Cut every connection and stop listening; durable or not, everything is forgotten."""
        greenlets, self._greenlets = self._greenlets, []
        for one in greenlets:
            one.kill()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.cut()
        self._vhosts = {name: VHost(name, self.now, self._timed.set) for name in self._vhosts}

    def cut(self) -> None:
        """Reset every connection, as a crash of the broker or of the network would; queues and messages stay."""
        for session in list(self.sessions):
            session.cut()

    def close_connections(self, code: int = CONNECTION_FORCED, text: str = "CONNECTION_FORCED - by the test") -> None:
        """Close every connection with a reason, as an operator would."""
        for session in list(self.sessions):
            session.close(code, text)

    def block(self, reason: str = "low on memory") -> None:
        """Raise the alarm: connections that publish are told and not read any more."""
        self.alarm = reason
        self._calm.clear()
        for session in self.sessions:
            session.announce_alarm()

    def unblock(self) -> None:
        """End the alarm."""
        self.alarm = ""
        self._calm.set()

    def wait_for_the_end_of_the_alarm(self) -> None:
        """Wait until `unblock` is called."""
        self._calm.wait()

    def now(self) -> float:
        """The broker's clock, in seconds: it runs, and `skip_waiting` moves it on."""
        return monotonic() + self._skipped_seconds

    def skip_waiting(self) -> bool:
        """Move the clock on to the moment when the next message is too old; False when none will ever be."""
        at = self._next_expiry()
        if at is None:
            return False
        self._skipped_seconds += max(0.0, at - self.now())
        self._expire_all()
        return True

    def left(self) -> str:
        """Return what is in the queues, for a message."""
        queues = [queue for vhost in self._vhosts.values() for queue in vhost.queues.values()]
        return ", ".join(f"{queue.name}: {len(queue)} ready, {queue.unacked} unacked" for queue in queues if len(queue) or queue.unacked)

    def is_quiet(self) -> bool:
        """Tell whether nothing is going on: every message that a consumer could take is settled, and nothing is on its way."""
        queues = [queue for vhost in self._vhosts.values() for queue in vhost.queues.values()]
        return not any(queue.unacked or queue.has_work() for queue in queues) and not any(session.is_busy() for session in self.sessions)

    def forget(self, session: Session) -> None:
        """Called by a connection that has ended."""
        if session in self.sessions:
            self.sessions.remove(session)

    # direct reply-to (https://www.rabbitmq.com/docs/direct-reply-to)

    def reply_address(self, channel: Channel) -> str:
        """Return the address under which a channel gets its replies."""
        return f"{REPLY_TO}.{self._reply_secret}.{channel.session.number}.{channel.number}"

    def answer(self, message: Message) -> bool:
        """Deliver a reply to the channel that its routing key names; False when it has gone."""
        for session in self.sessions:
            for channel in session.channels.values():
                if channel.reply_consumer is not None and self.reply_address(channel) == message.routing_key:
                    head = methods.BasicDeliver(channel.reply_consumer, 1, False, "", message.routing_key)
                    channel.send(head, message.properties, message.body)
                    return True
        return False

    # greenlets

    def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _address = listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._number += 1
            self.sessions.append(Session(self, client, self._number))

    def _expire(self) -> None:
        while True:
            waits = [] if (at := self._next_expiry()) is None else [at - self.now()]
            lasting = [queue.lasts_until for vhost in self._vhosts.values() for queue in vhost.queues.values()]
            waits += [until - monotonic() for until in lasting if until is not None]
            self._timed.wait(max(0.0, min(waits)) if waits else None)
            self._timed.clear()
            self._expire_all()

    def _next_expiry(self) -> float | None:
        waiting = (queue.next_expiry for vhost in self._vhosts.values() for queue in vhost.queues.values())
        return min((at for at in waiting if at is not None), default=None)

    def _expire_all(self) -> None:
        for vhost in self._vhosts.values():
            for queue in list(vhost.queues.values()):
                queue.expire()
            vhost.delete_unused()
