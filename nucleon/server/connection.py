"""One connection: a small object that the poller calls; a greenlet only while a request runs."""

import logging
import re
from typing import TYPE_CHECKING, Any

from gevent import get_hub, getcurrent
from greenlet import greenlet

from nucleon.errors import Problem, Unavailable
from nucleon.http import MalformedInput
from nucleon.http.head import RequestHead, head_end, parse_head, skip_empty_line
from nucleon.http.native import ends, now
from nucleon.message.request import identity_from
from nucleon.server.core import Core
from nucleon.server.problems import RequestTimeout, problem_from, refusal
from nucleon.server.states import BUSY, CLOSED, LINGERING, READING
from nucleon.server.wire import RECEIVE_BYTES, Wire

if TYPE_CHECKING:
    from nucleon.server.body import Body

log = logging.getLogger("nucleon.server")
_LINGER_BYTES = 4_194_304  # what a lingering close reads and drops at most
_HELD_BYTES = 65_536  # of answers to pipelined requests that wait for those behind them
_WRITE = 2  # what a watcher of the loop waits for
_FILE_BYTES = 262_144  # of a file by one call: a slow disk holds up all others for so long
_FILE_TURN_BYTES = 1_048_576  # after so many bytes of a file the others have their turn
_to: Any = greenlet.switch
_TIMEOUT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")


class Gone(Exception):
    """The client has gone, or takes nothing any more."""


class Connection:
    """The socket of one client and what is known about it.

    pending: bytes received and not used yet. worker: what runs the request. waiting: the greenlet that waits for the client.
    since: the tick at which the current wait began; is_idle: it is for the next request, not for the rest of a head.
    may_hold: the answer may wait in `held` for those behind it. early: the body whose head left before the application returned.
    is_events: the answer is a stream of events, which has no end of its own. body: the one that waits; it takes from the wire itself.
    The callbacks run in the hub.
    """

    __slots__ = (
        "_dropped_bytes", "_head_seen", "_is_watched", "_paused", "_slow_bytes", "_slow_ticks", "body", "early", "eof", "head", "held",
        "is_events", "is_idle", "late", "may_hold", "overdue_at", "peer", "pending", "scheme", "server", "since", "state",
        "waiting", "wire", "worker",
    )  # fmt: skip

    def __init__(self, server: Core, wire: Wire, peer: str, scheme: str = "http") -> None:
        self.begin_with(server, wire, peer, scheme)

    def begin_with(self, server: Core, wire: Wire, peer: str, scheme: str) -> None:
        """Set what a connection begins with; made without `__init__`, it costs a third."""
        self.server = server
        self.wire = wire
        self.peer = peer
        self.scheme = scheme
        self.pending = b""
        self.held = b""
        self.state = READING
        self.eof = False
        self.late = False
        self.is_idle = False
        self.may_hold = False
        self.since = server.tick
        self.head: RequestHead | None = None
        self.body: Body | None = None
        self.worker: Any = None
        self.waiting: Any = None
        self.overdue_at = 0.0
        self._head_seen = 0
        self._dropped_bytes = 0
        self._is_watched = False
        self._paused = False
        self._slow_bytes = 0
        self._slow_ticks = 0
        self.early: Any = None
        self.is_events = False

    @property
    def is_reading(self) -> bool:
        """Tell whether no request runs and none has been refused."""
        return self.state == READING

    def open(self) -> None:
        """Begin: the request is often here with the connection, and one that is to be the only one is not watched. Runs in the hub."""
        self.on_readable()
        self.release()
        self._watch()

    def _watch(self) -> None:
        """Let the poller call `on_readable` from now on."""
        if not self._is_watched and self.state != CLOSED:
            self._is_watched = True
            self.server.poller.add(self.wire.fd, self)

    def _read_on(self) -> None:
        """Let the poller call once more when the last call has not taken all that there was: it tells each arrival once."""
        if self._is_watched and not self.wire.is_drained and not self._paused and self.state != CLOSED:
            self.server.poller.again(self.wire.fd)

    def on_readable(self) -> None:
        """Take what has come, or let the body that waits take it. Runs in the hub."""
        if self.body is not None:
            self.waiting.switch()
            return
        if self._paused:
            self.wire.is_drained = False
            return
        data = self.wire.receive()
        if data is not None:
            self._take(data)
        self._read_on()

    def _take(self, data: bytes) -> None:
        """Use what has come: b"" for the end of input."""
        if self.state == READING:
            if self._has_begun(data):
                self._dispatch()
        elif self.state == BUSY:
            self._keep(data)
        else:
            self._dropped_bytes += len(data)
            if not data or self._dropped_bytes > _LINGER_BYTES:
                self.close()

    def take_request(self) -> bool:
        """Take what has come between two requests. True: another one runs from now on, and the worker that asks has to answer it."""
        data = self.wire.receive()
        has_begun = data is not None and self._has_begun(data)
        self._read_on()
        return has_begun

    def _has_begun(self, data: bytes) -> bool:
        """Use what has come between two requests. True: a request is here, and runs from now on."""
        if not data:
            self.close()
            return False
        self.pending = self.pending + data if self.pending else data
        try:
            if not self.next_head():
                return False
        except MalformedInput as wrong:
            self.refuse(problem_from(wrong))
            return False
        core = self.server
        if core.running >= core.maximum_running:
            self.refuse(Unavailable(f"{core.running} requests are running"))
            return False
        self.begin()
        self.may_hold = True
        core.holding = self
        return True

    def _keep(self, data: bytes) -> None:
        """Hold what comes while a request runs, up to a bound; the end of input is only noted (RFC 9112 9.6)."""
        if data:
            self.pending += data
            self._paused = len(self.pending) >= RECEIVE_BYTES
        else:
            self.eof = True
        if self.eof and self._is_in_vain():
            self.worker.leave()

    def _is_in_vain(self) -> bool:
        """Tell whether nobody will read the answer to a request that changes nothing.

        A reset says so. The end of input says so when a proxy sent it; another client may have closed only its own half (RFC 9112 9.6).
        """
        if self.worker is None or self.head is None or self.head.method not in ("GET", "HEAD"):
            return False
        return self.wire.is_reset or bool(self.server.proxies and self.server.proxies.trusts(self.peer))

    def next_head(self) -> bool:
        """Look for a complete head in what is pending. True: `head` is set. Raises `MalformedInput`."""
        data = self.pending
        core = self.server
        limits = core.limits
        start = 0
        end = len(data)
        if data[0] == 13:
            start = skip_empty_line(data, 0)
        if end - start < 2:
            self._await_head()
            return False
        if end - start > limits.head_bytes or not ends(data, b"\r\n\r\n"):
            end = head_end(data, start, self._head_seen, limits)
            if end < 0:
                self._head_seen = len(data)
                self._await_head()
                return False
        head = parse_head(data, start, end, limits, None if core.environ is None else core.environ.copy())
        if head.content_length > limits.body_bytes:
            raise MalformedInput(f"the body is longer than {limits.body_bytes} bytes", 413)
        if head.is_for_tls and self.scheme != "https" and not (core.proxies and core.proxies.trusts(self.peer)):  # RFC 9110 7.4
            raise MalformedInput("an https target on a connection without TLS", 421)
        self.head = head
        self._head_seen = 0
        end = start + head.size
        self.pending = b"" if end == len(data) else data[end:]
        return True

    def _dispatch(self) -> None:
        """Hand the connection with its request to a worker. Runs in the hub, until the worker waits or has nothing left to do."""
        core = self.server
        if core.parked:
            _to(core.unpark(), self)
        else:
            core.new_worker(self)

    def release(self) -> None:
        """The hub has its turn again: the answers of the connection that a worker came to last wait no longer for those behind them."""
        last: Connection | None = self.server.holding
        if last is not None:
            self.server.holding = None
            last.may_hold = False
            if last.held:
                last._send_held()

    def begin(self) -> None:
        """The request whose head is here runs from now on."""
        core = self.server
        self.state = BUSY
        core.requests += 1
        seconds = core.deadline_seconds
        patience = None if self.head is None else self.head.patience
        if patience is not None and _TIMEOUT.fullmatch(patience):
            seconds = min(seconds, float(patience))
        self.overdue_at = now() + seconds + core.grace_seconds
        self._slow_bytes = 0
        self._slow_ticks = 0
        self.early = None
        self.is_events = False

    def _send_held(self) -> None:
        """The worker waits: nothing behind it will take the held answers along. Runs in the hub, and never waits."""
        if self.state == CLOSED:
            return
        try:
            self.held = self.held[self.wire.send(self.held, 0) :]
        except OSError:
            return  # the worker learns it with its next answer

    def refuse(self, problem: Problem) -> None:
        """Answer without the application, and close. Runs where it is called; never waits, nor does a log handler: the hub logs it."""
        identity = identity_from("")
        to_head = self.pending.lstrip(b"\r\n").startswith(b"HEAD ") if self.head is None else self.head.method == "HEAD"
        try:
            self.wire.send(refusal(problem, identity, to_head), 0)
        except OSError:
            self.close()
        else:
            self.linger()
        said = "refused with %s: %s; peer %s, request id %s", problem.status, problem.detail, self.peer or "unix", identity
        if getcurrent() is self.server.hub:
            log.info(*said)  # at once: a flood waits for a slow log
        else:
            self.server.loop.run_callback(log.info, *said)

    def wait_for_input(self, body: "Body") -> str:
        """Wait until the wire may have something, or its end: "ready", "late" or "ended". Called by the worker greenlet.

        The body takes from the wire itself, and `pending` stays as it is: it is empty.
        """
        self._paused = False
        if self.eof:
            return "ended"
        self._read_on()
        self.body = body
        self.waiting = getcurrent()
        body.waits_since = began = now()
        try:
            get_hub().switch()
        finally:
            self.waiting = self.body = None
            body.waited_seconds += now() - began
        return "late" if self.late else "ready"

    def send(self, data: bytes) -> None:
        """Send all of data, waiting for the client to take it. Raises `Gone`. Called by the worker greenlet."""
        if self.held:
            data = self.held + data
            self.held = b""
        try:
            sent = self.wire.send(data, 0)
        except OSError as error:
            raise Gone(str(error)) from None
        if sent != len(data):
            self._send_rest(data, sent)

    def send_ahead(self, data: bytes) -> bytes:
        """Send what there is room for, and return the rest. Runs in the hub while the worker waits for something else; never waits."""
        if self.held:
            self._send_held()
        if self.held or self.state == CLOSED:
            return data
        try:
            return data[self.wire.send(data, 0) :]
        except OSError:
            return data  # the worker learns it with its next piece

    def send_both(self, head: bytes, body: bytes) -> None:
        """Send a head and a large body, which is not copied; as `send`."""
        if self.held:
            head = self.held + head
            self.held = b""
        try:
            sent = self.wire.send_both(head, body)
        except OSError as error:
            raise Gone(str(error)) from None
        if sent < len(head):
            self._send_rest(head, sent)
            sent = len(head)
        if sent != len(head) + len(body):
            self._send_rest(body, sent - len(head))

    def send_last(self, data: bytes) -> None:
        """Send an answer behind which the connection is closed: its end travels in the same packet. As `send`.

        Nothing that may wait comes between this and `finish`.
        """
        if self.held or not self.wire.is_plain:
            self.send(data)
            return
        try:
            sent = self.wire.send_last(data)
        except OSError as error:
            raise Gone(str(error)) from None
        if sent != len(data):
            self._send_rest(data, sent)

    def hold(self, data: bytes) -> bool:
        """Keep an answer back when more requests are here, so that one packet carries many. False: it has to be sent now."""
        if not self.may_hold or not self.pending or len(self.held) + len(data) > _HELD_BYTES:
            return False
        self.held += data
        return True

    def _send_rest(self, data: bytes, start: int) -> None:
        while True:
            try:
                sent = self.wire.send(data, start)
            except OSError as error:
                raise Gone(str(error)) from None
            start += sent
            self._slow_bytes += sent
            if start == len(data):
                return
            self._wait_for_room()

    def send_file(self, file: int, start: int, size: int) -> int:
        """Send `size` bytes of a file from `start`, in the kernel; return how many there were. Raises `Gone`, and `OSError` of the file."""
        ends = start + size
        turn = 0
        while start < ends:
            try:
                sent = self.wire.send_file(file, start, min(_FILE_BYTES, ends - start))
            except ConnectionError as error:
                raise Gone(str(error)) from None
            if sent == 0:
                break
            if sent < 0:
                self._wait_for_room()
                continue
            start += sent
            turn += sent
            self._slow_bytes += sent
            if turn >= _FILE_TURN_BYTES:
                turn = 0
                self.give_way()
        return size - (ends - start)

    def give_way(self) -> None:
        """Let the loop look at all sockets, then go on. `gevent.sleep(0)` would go on up to 50 times before it looks at any."""
        timer = self.server.loop.timer(0)
        try:
            get_hub().wait(timer)
        finally:
            timer.close()

    def _wait_for_room(self) -> None:
        watcher = self.server.loop.io(self.wire.fd, _WRITE)
        self.waiting = getcurrent()
        self.since = self.server.tick
        watcher.start(self.waiting.switch)
        try:
            get_hub().switch()
        finally:
            watcher.stop()
            watcher.close()
            self.waiting = None
            self._slow_ticks += self.server.tick - self.since
        if self.late or self.state == CLOSED:
            raise Gone("the client takes nothing")

    def resume(self) -> None:
        """Go back to reading after a request."""
        self.state = READING
        self.head = None
        self.worker = None
        self.is_idle = True
        self.since = self.server.tick
        self._paused = False
        self._read_on()

    def _await_head(self) -> None:
        """A head has begun: from now on its clock runs, not that of idleness."""
        if self.is_idle:
            self.is_idle = False
            self.since = self.server.tick

    def sweep(self, instant: float) -> None:
        """End what has waited too long. Called by the server's timer, in the hub."""
        core = self.server
        waited = core.tick - self.since
        if self.state == READING:
            if self.is_idle:
                if waited > core.idle_ticks:
                    self.close()
            elif waited > core.head_ticks:
                self._expire_head()
        elif self.state == LINGERING:
            if waited > core.linger_ticks:
                self.close()
        elif self.state == BUSY:
            if self.waiting is not None:
                too_long = self._is_taken_too_slowly(waited) if self.body is None else self.body.is_late(instant)
                if too_long:
                    self.late = True
                    self.waiting.switch()
            if 0 < self.overdue_at < instant and self.state == BUSY and self.worker is not None:
                self.overdue_at = 0.0
                self.worker.interrupt()

    def _is_taken_too_slowly(self, waited: int) -> bool:
        """Tell whether the client takes less than the setting's rate, over all waits of this answer."""
        core = self.server
        return self._slow_ticks + waited > core.write_ticks + self._slow_bytes // core.write_bytes_per_tick

    def _expire_head(self) -> None:
        if self.pending:
            self.refuse(RequestTimeout("the head came too slowly"))
        else:
            self.close()

    def finish(self) -> None:
        """Close after an answer: at once when the client sends no more, as it said, and nothing that it sent is unread."""
        head = self.head
        is_last = head is not None and not head.keep_alive and not head.chunked and head.content_length <= 0 and not self.pending
        if is_last and self.wire.is_plain and not self.wire.receive():
            self.close()
        else:
            self.linger()

    def linger(self) -> None:
        """Close in two steps: a reset must not destroy the answer that is on its way (RFC 9112 9.6)."""
        if self.state == CLOSED:
            return
        if self.eof:
            self.close()
            return
        self.state = LINGERING
        self.pending = b""
        self.since = self.server.tick
        try:
            self.wire.end()
        except OSError:
            self.close()
            return
        self._paused = False
        self._watch()
        self._read_on()

    def close(self) -> None:
        """Close the socket and forget the connection; a second call does nothing."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        self.held = b""
        if self._is_watched:
            self.server.poller.forget(self.wire.fd)
        self.wire.close()
        self.server.forget(self)

    def __repr__(self) -> str:
        return f"<Connection from {self.peer or 'a Unix socket'}, {('reading', 'busy', 'lingering', 'closed')[self.state]}>"


def open_plain(core: Core, fd: int, family: int, peer: str) -> None:
    """Begin a connection on a socket that does not block, ours from now on. Runs in the hub."""
    wire = Wire.__new__(Wire)
    wire.begin(fd, family)
    connection = Connection.__new__(Connection)
    connection.begin_with(core, wire, peer, "http")
    core.connections.add(connection)
    connection.open()
