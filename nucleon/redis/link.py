"""One connection that the greenlets of a worker share: commands of one turn leave in one write, replies come back in order.

Written for the compiler: `link.pxd` gives it C types; interpreted it does the same, slower. gevent's loop is used directly, because
a greenlet is woken here without anything in between; that is most of the speed.

Every command is a `Call` in a queue that has the order of the wire. Whoever waits may leave (deadline, kill): the call stays in the queue
without a greenlet, and its reply is dropped when it comes. So a reply can never reach somebody else.
"""

import re
from collections.abc import Callable
from socket import MSG_DONTWAIT, MSG_PEEK
from ssl import SSLWantReadError, SSLWantWriteError
from time import monotonic
from typing import Any

from gevent import get_hub
from gevent.exceptions import BlockingSwitchOutError
from greenlet import getcurrent, greenlet
from hiredis import PushNotification
from redis.exceptions import InvalidResponse

from nucleon.errors import DeadlineExceeded
from nucleon.green import deadline_at
from nucleon.green.thread_numbers import thread_number
from nucleon.green.threads import NOBODY, Turn, here
from nucleon.redis.border import Lost, ReplyTooLarge, Silent
from nucleon.redis.calls import ANSWERED, LATE, LOST, TOO_LARGE, UNSENT, WAITING, Call, CallQueue
from nucleon.redis.replies import UNREAD, Replies

NOT_YET = object()
"""What the reader gives when a reply is not complete."""

_to: Any = greenlet.switch
_deadline = deadline_at.get

AGAIN = (BlockingIOError, SSLWantReadError, SSLWantWriteError)
READ_BYTES = 65536
WRITE_COMMANDS, WRITE_REPLIES = 16, 16384  # so many commands, and octets of replies to them, are worth a write while others are collected
KEPT_BYTES = 16384  # a reply that is not here whole is kept up to this size, until it is; hiredis collects what is larger
STUCK_BYTES = 65536  # a reply that is this long and not complete keeps others waiting: they take another connection
GLANCE_SECONDS = 0.005  # a connection idle for longer may have been closed meanwhile: looked at before it is used
SCAN_SECONDS = 0.005  # deadlines are looked at this often at most
FOREVER = float("inf")

DEEP = re.compile(rb"(?:[*~>%|][0-9]+\r\n){129}")
"""Aggregates in aggregates, more than 128 deep: no command answers so."""
VAST = re.compile(rb"[*~>%|]([0-9]{8,})\r\n")
"""The head of a reply with ten million members and more: memory for all of them would be taken at once."""


class Link(Turn):
    """A shared connection. Belongs to the thread (hub) that made it.

    connection: an open connection of redis-py, handshake done. reader: a `hiredis.Reader` that gives `NOT_YET`. patience_seconds: how
    long a reply may take. reply_bytes: the largest reply. most_calls, most_bytes: what may be on its way. ended: called once with this
    link when the connection is gone. roomy: called when replies have made room, while somebody waits for that. copies: told of the
    server's pushes, when the connection is in tracking mode. is_text: whether the reader decodes; None when otherwise than UTF-8.
    """

    def __init__(
        self,
        connection: Any,
        reader: Any,
        *,
        patience_seconds: float,
        reply_bytes: int,
        most_calls: int,
        most_bytes: int,
        ended: "Callable[[Link], None]",
        copies: Any = None,
        is_text: bool | None = None,
    ) -> None:
        self.connection = connection
        self.patience = patience_seconds
        self.reply_bytes = reply_bytes
        self.most_calls, self.most_bytes = most_calls, most_bytes
        self.reserved = self.reserved_bytes = 0
        self.ended = ended
        self.copies = copies
        self.roomy: Callable[[Link], None] | None = None
        self.why = ""
        self.is_lost = self.is_retired = self.is_scheduled = self.is_blocked = self.is_clean = False
        self.hub = get_hub()
        self.thread, self.thread_number = here.thread, thread_number()
        self.loop = self.hub.loop
        sock = connection._sock
        sock.settimeout(0)
        self.peek = sock._sock.recv
        self.pending = getattr(sock, "pending", None)  # TLS: octets decrypted and not yet read
        through = sock if self.pending is not None else sock._sock
        self.recv_into, self.send = through.recv_into, through.send
        self.reader = reader
        self.feed, self.gets, self.has_more = reader.feed, reader.gets, reader.has_data
        self.is_inside = False  # hiredis has octets of a reply that is not complete, or of more than one
        self.buffer = bytearray(READ_BYTES)
        self.view = memoryview(self.buffer)
        self.out: list[bytes] = []
        self.left: bytes | memoryview = b""
        self.calls = CallQueue()
        self.ready = CallQueue()  # their replies are read, and they wait to be woken
        self.kept = 0  # octets at the head of the buffer that nobody has read yet
        self.replies = Replies()
        self.is_plain = is_text is not None
        self.is_text = bool(is_text)
        self.unsent = self.bytes = self.partial = 0
        self.typical = 0  # octets of a reply, by those read together last
        self.received_at = monotonic()
        self.timer: Any = None
        self.timer_at = FOREVER
        self.read_watcher = self.loop.io(sock.fileno(), 1)
        self.write_watcher = self.loop.io(sock.fileno(), 2)
        self.read_watcher.start(self.readable)

    def has_room(self, size: int) -> bool:
        """Whether a command of `size` octets may be sent now; one alone may be of any size."""
        count = self.calls.count + self.reserved
        if self.is_lost or self.is_retired or count >= self.most_calls:
            return False
        return count == 0 or self.bytes + self.reserved_bytes + size <= self.most_bytes

    def may_take(self, size: int) -> bool:
        """Whether this is a good connection for a command of `size` octets, asked in the thread that asks."""
        return self.has_room(size) and self.partial <= STUCK_BYTES and thread_number() == self.thread_number

    def ask(  # noqa: PLR0917  positional: this is called for every command
        self, data: bytes, wanted: int, raws: tuple[bool, ...] | None, now: float, copy: Any = None, pairs: bool = False
    ) -> Any:
        """Send commands and return the reply, or the list of them when `wanted` is more than one; error replies are returned too.

        now: when the patience with it began. copy: `copy.settle(link, replies)` is called as soon as they are here. pairs: the reply
        is a list of names and values, or a dict of them when that is quicker. Raises `Lost`, `Silent`, `ReplyTooLarge`, and
        `DeadlineExceeded` at the deadline. The connection outlives all of them but `Lost`.
        """
        ends = now + self.patience
        by_deadline = False
        at = _deadline()
        if at is not None and at < ends:
            if at <= now:
                raise DeadlineExceeded("the deadline has passed")
            ends, by_deadline = at, True
        is_idle = self.calls.count == 0
        if is_idle:
            self.is_clean = True
            if now - self.received_at > GLANCE_SECONDS and not self.ready:
                self.glance()  # with replies in hand this runs among them: to read on would wake others from here, and nobody us
        if self.is_lost:
            raise Lost(self.why, may_have_run=False)
        call = Call.__new__(Call)  # and its fields one by one: an `__init__` of so many costs more than all of them
        call.size, call.wanted, call.raws, call.copy = len(data), wanted, raws, copy
        call.began, call.ends, call.by_deadline = now, ends, by_deadline
        call.pairs = pairs
        call.is_plain = self.is_plain and wanted == 1 and copy is None
        call.replies = None if wanted == 1 else []
        call.reply = call.greenlet = None
        call.fate = WAITING
        self.calls.append(call)
        self.out.append(data)
        self.unsent += 1
        self.bytes += call.size
        if ends < self.timer_at:
            self.arm(ends, monotonic())  # `now` is older when a connection, or room, was waited for
        turn = self.thread.turn
        if self.is_worth_a_write() or (is_idle and (turn is None or not turn.others_follow())):
            self.send_out()
        elif not self.is_scheduled:
            self.is_scheduled = True
            self.loop.run_callback(self.flush)
        if call.fate == WAITING:
            hub = self.hub
            call.greenlet = getcurrent()
            try:
                if call.greenlet is hub:  # a callback of the loop: it would wait for itself
                    raise BlockingSwitchOutError("a Redis command cannot wait in the event loop itself: spawn a greenlet for it")
                while call.fate == WAITING:
                    self.thread.leave(hub)
            finally:
                call.greenlet = None
        if call.fate == ANSWERED:
            return call.reply
        raise self.error_of(call)

    def error_of(self, call: Call) -> Exception:
        """Return the exception for a call that got no reply."""
        if call.fate in (UNSENT, LOST):
            return Lost(self.why, may_have_run=call.fate == LOST)
        if call.fate == TOO_LARGE:
            return ReplyTooLarge(self.why)
        if call.by_deadline:
            return DeadlineExceeded("Redis did not answer before the deadline")
        return Silent(f"no reply within {self.patience:g} s")

    def is_stuck(self) -> bool:
        """Whether a large reply is on its way, so that others had better take another connection."""
        return self.partial > STUCK_BYTES

    def is_worth_a_write(self) -> bool:
        """Whether what is collected keeps the server busy while we collect more: replies are large, by those that came last."""
        return self.unsent >= WRITE_COMMANDS and self.unsent * self.typical >= WRITE_REPLIES

    def flush(self) -> None:
        """Write what is collected; what the socket does not take is written when it can."""
        self.is_scheduled = False
        self.send_out()

    def send_out(self) -> None:
        """Write what is collected, as far as the socket takes it."""
        if self.is_lost or self.is_blocked or not self.out:
            return
        out = self.out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        try:
            sent = self.send(data)
        except AGAIN:
            sent = 0
        except OSError as error:
            self.lose(f"the connection is broken: {error.strerror or error}")
            return
        self.unsent = 0
        if sent < len(data):
            self.left = memoryview(data)[sent:]
            self.is_blocked = True
            self.write_watcher.start(self.writable)

    def writable(self) -> None:
        """Write more of what the socket did not take."""
        try:
            sent = self.send(self.left)
        except AGAIN:
            return
        except OSError as error:
            self.lose(f"the connection is broken: {error.strerror or error}")
            return
        if sent < len(self.left):
            self.left = self.left[sent:]
            return
        self.left = b""
        self.is_blocked = False
        self.write_watcher.stop()
        self.flush()

    def glance(self) -> None:
        """Find out whether the server closed an idle connection; whatever it sent unasked is read."""
        try:
            self.peek(1, MSG_PEEK | MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            self.lose(f"the connection is broken: {error.strerror or error}")
            return
        self.readable()

    def readable(self) -> None:
        """Read once, and wake those whose replies are complete."""
        while not self.is_lost:
            try:
                count = self.recv_into(self.view[self.kept :] if self.kept else self.buffer)
            except AGAIN:
                return
            except OSError as error:
                self.lose(f"the connection is broken: {error.strerror or error}")
                return
            if count == 0:
                self.lose("the server closed the connection")
                return
            self.received_at = monotonic()
            if self.is_clean:
                self.is_clean = False
                if self.is_vast(count):
                    return
            self.drain(count)
            if self.pending is None or not self.pending():
                return

    def take(self, count: int) -> None:
        """Take the replies that are here, `count` octets more than before. Nobody is woken yet: what runs then may read into the buffer."""
        start, asked = 0, self.calls.count
        count += self.kept
        self.kept = 0
        if not self.is_inside:
            start = self.take_plain(count)
        if start < count:
            self.is_inside = True
            self.partial += count - start
            self.feed(self.buffer, start, count - start)
        if self.is_inside:
            self.take_inside()
            if self.partial > 512 and not self.is_lost:
                self.check_partial(start, count)
        if self.calls.count < asked:
            self.typical = count // (asked - self.calls.count)

    def take_plain(self, count: int) -> int:
        """Read the commonest replies at the head of the buffer; return where that ended. What is small and not here whole stays."""
        start, calls, replies = 0, self.calls, self.replies
        while start < count:
            call = calls.first
            if call is None or not call.is_plain:
                break
            reply = replies.read(self.buffer, start, count, self.is_text and (call.raws is None or not call.raws[0]), call.pairs)
            if reply is UNREAD:
                if replies.end == start and count - start <= KEPT_BYTES:
                    self.kept = count - start
                    self.buffer[: self.kept] = self.buffer[start:count]
                    start = count
                break
            start = replies.end
            self.answer(reply)
        return start

    def take_inside(self) -> None:
        """Take complete replies from hiredis; what the server says unasked is told to the copies."""
        calls = self.calls
        while self.is_inside and not self.is_lost:
            call = calls.first
            if call is None or call.raws is None:
                reply = self.taken(True)
            else:
                reply = self.taken(not call.raws[len(call.replies) if call.replies is not None else 0])
            if reply is NOT_YET:
                return
            self.partial = 0
            self.is_inside = self.has_more()
            if type(reply) is PushNotification:
                if self.copies is not None:
                    self.copies.pushed(reply)
                continue
            if call is None:
                self.lose("the server sent a reply that nobody asked for")
                return
            if call.replies is not None:
                call.replies.append(reply)
                call.wanted -= 1
                if call.wanted:
                    continue
                reply = call.replies
            self.answer(reply)
            if call.copy is not None:
                call.copy.settle(self, reply)

    def answer(self, reply: Any) -> None:
        """The first call has its reply; its greenlet is woken after the others before it."""
        call = self.calls.popleft()
        self.bytes -= call.size
        if call.fate == WAITING:
            call.reply = reply
            call.fate = ANSWERED
            self.ready.append(call)

    def drain(self, count: int = 0) -> None:
        """Take the replies that are here and switch to those who wait for them, in order. count: octets that have come."""
        before, self.thread.turn = self.thread.turn, self
        is_taken = False
        try:
            self.take(count)
            is_taken = True
            while self.ready.count:
                self.wake(self.ready.popleft())
            if self.roomy is not None:
                self.roomy(self)
            if self.is_retired and self.calls.count == 0:
                self.lose("replaced")
        except BaseException:  # a bare greenlet died into the hub: the others go on
            self.loop.run_callback(self.resume)
            if not is_taken:  # no memory, say: octets are gone, and the next reply would go to the wrong call
                self.lose("what the server sent could not be read")
            raise
        finally:
            self.thread.turn = before

    def others_follow(self) -> bool:
        """Whether greenlets whose replies are here wait to be woken."""
        return self.ready.count > 0

    def pass_on(self) -> Any:
        """Switch to the next greenlet whose reply is here."""
        ready = self.ready
        while ready.count:
            call = ready.popleft()
            waiter = call.greenlet
            if waiter is not None:
                call.greenlet = None
                return _to(waiter)
        return NOBODY

    def resume(self) -> None:
        """Go on reading after an error in a callback, for which gevent stops the watcher."""
        if not self.is_lost:
            self.read_watcher.start(self.readable)
        self.drain()

    def taken(self, is_decoded: bool) -> Any:
        """Return the next reply, `NOT_YET`, or the error of a reply that cannot be decoded. What is not RESP ends the connection."""
        try:
            return self.gets() if is_decoded else self.gets(False)
        except UnicodeDecodeError as error:
            return error
        except (InvalidResponse, MemoryError) as error:
            self.lose(f"the server does not speak RESP: {str(error) or 'a reply too large for memory'}")
            return NOT_YET

    def is_vast(self, count: int) -> bool:
        """Whether the reply that begins in the buffer promises absurdly many members; the connection is closed then."""
        found = VAST.match(self.view[: min(count, 32)])
        if found is None or int(found.group(1)) * 4 < self.reply_bytes:  # a member takes four octets at least
            return False
        self.refuse(f"a reply of {int(found.group(1))} members is more than reply_bytes ({self.reply_bytes}) allows")
        return True

    def check_partial(self, start: int, count: int) -> None:
        """End the connection when the reply under way is too large or too deep."""
        if self.partial > self.reply_bytes:
            self.refuse(f"a reply is larger than reply_bytes ({self.reply_bytes})")
        elif DEEP.search(self.view[start:count]) is not None:
            self.refuse("a reply is nested more than 128 deep")

    def refuse(self, why: str) -> None:
        """End the connection because of the reply that is under way; only its caller hears why."""
        first = self.calls.first
        if first is not None and first.fate == WAITING:
            first.fate = TOO_LARGE
        self.lose(why)

    def arm(self, at: float, now: float) -> None:
        """Look at the deadlines at the instant `at`."""
        if self.timer is not None:
            self.timer.close()
        self.timer_at = at
        self.timer = self.loop.timer(max(at - now, 0.0005))
        self.timer.start(self.check, update=True)

    def check(self) -> None:
        """Let go those whose time is over; end the connection when the server has been silent for too long."""
        now = monotonic()
        self.timer_at = FOREVER
        first = self.calls.first
        if first is None or self.is_lost:
            return
        dead_at = max(self.received_at, first.began) + self.patience
        if dead_at <= now + 0.0005:
            self.expire(now)
            self.lose(f"the server is silent for {self.patience:g} s")
            return
        nearest = min(self.expire(now), dead_at)
        self.arm(max(nearest, now + SCAN_SECONDS), now)

    def expire(self, now: float) -> float:
        """Mark and wake calls whose time is over; return when the next one's is."""
        nearest = FOREVER
        for call in self.calls:
            if call.fate == WAITING:
                if call.ends <= now + 0.0005:
                    call.fate = LATE
                    self.loop.run_callback(self.wake, call)
                elif call.ends < nearest and call.greenlet is not None:
                    nearest = call.ends
        return nearest

    def wake(self, call: Call) -> None:
        """Switch to whoever waits for the call, if anybody still does."""
        waiter = call.greenlet
        if waiter is not None:
            call.greenlet = None
            _to(waiter)

    def retire(self) -> None:
        """Take no more commands; close when the last reply has come."""
        self.is_retired = True
        if not self.calls and not self.is_lost:
            self.lose("replaced")

    def lose(self, why: str) -> None:
        """Close the connection; everybody who waits is told whether the command may have run. A second call does nothing."""
        if self.is_lost:
            return
        self.is_lost = True
        self.why = why
        self.forget()
        sent = len(self.calls) - self.unsent
        for call in self.calls:
            if call.fate == WAITING:
                call.fate = LOST if sent > 0 else UNSENT
            sent -= 1
            if call.greenlet is not None:
                self.loop.run_callback(self.wake, call)
        self.calls.clear()
        self.bytes = self.unsent = self.partial = 0
        self.ended(self)

    def forget(self) -> None:
        """Close our end of the socket without a word to anybody; all that a forked child may do."""
        self.is_lost = True
        self.out.clear()
        self.left = b""
        for watcher in (self.read_watcher, self.write_watcher, self.timer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self.connection.disconnect()
