"""Each arrival of input is told once: nothing of it may be left over."""

import logging
import socket
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.event
import greenlet
import pytest
from hosting import Hosted, hosted

from nucleon import hooks
from nucleon.green.threads import here
from nucleon.server.connection import Connection
from nucleon.server.core import Core
from nucleon.server.poller import Poller
from nucleon.server.settings import Settings
from nucleon.server.wire import RECEIVE_BYTES, Wire
from nucleon.testing import eventually

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Counting:
    """Reads each body, waits for `go`, and answers with how many requests there were."""

    def __init__(self) -> None:
        self.count = 0
        self.go = gevent.event.Event()
        self.go.set()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.count += 1
        number = self.count
        environ["wsgi.input"].read()
        self.go.wait()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"<%d>" % number]


@pytest.fixture
def counting() -> Iterator[Hosted]:
    with hosted(Counting(), idle_seconds=600, head_seconds=600) as served:  # nothing ends by a clock
        yield served


def received(connection: socket.socket, end: bytes) -> bytes:
    seen = b""
    while not seen.endswith(end):
        data = connection.recv(65_536)
        assert data, seen[-200:]
        seen += data
    return seen


def everything(connection: socket.socket) -> bytes:
    seen = b""
    while data := connection.recv(65_536):
        seen += data
    return seen


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_request_that_comes_together_with_the_end_of_input_is_answered_and_the_connection_ends(counting: Hosted, earlier: int) -> None:
    with socket.create_connection(counting.address, timeout=10) as connection:
        for _ in range(earlier):
            connection.sendall(GET)
            received(connection, b"<1>")
        connection.sendall(GET)
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).endswith(b"<%d>" % (earlier + 1))
        eventually(lambda: not counting.server.connections)


@pytest.mark.parametrize("size", [RECEIVE_BYTES - 1, RECEIVE_BYTES, RECEIVE_BYTES + 1, 2 * RECEIVE_BYTES, 5 * RECEIVE_BYTES])
def test_input_as_long_as_what_is_received_at_once_is_taken_whole(counting: Hosted, size: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %8d\r\n\r\n".replace(b"%8d", b"%08d")
    body = bytes(size - len(head % 0))
    with socket.create_connection(counting.address, timeout=10) as connection:
        for number in range(1, 4):
            connection.sendall(head % len(body) + body)
            received(connection, b"<%d>" % number)


def test_pipelined_requests_beyond_what_a_running_request_lets_in_are_answered_in_order(counting: Hosted) -> None:
    counting.app.go.clear()
    count = 8 * RECEIVE_BYTES // len(GET)
    with socket.create_connection(counting.address, timeout=10) as connection:
        sender = gevent.spawn(connection.sendall, GET * count)
        eventually(lambda: any(len(one.pending) >= RECEIVE_BYTES for one in counting.server.connections))
        counting.app.go.set()
        answers = received(connection, b"<%d>" % count)
        sender.join()
    numbers = [int(part.partition(b">")[0]) for part in answers.split(b"<")[1:]]
    assert numbers == list(range(1, count + 1))


def test_a_refused_client_that_goes_on_sending_is_read_until_it_ends(counting: Hosted) -> None:
    with socket.create_connection(counting.address, timeout=10) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        connection.sendall(bytes(3 * RECEIVE_BYTES))
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
        connection.shutdown(socket.SHUT_WR)
        eventually(lambda: not counting.server.connections)


def opened(counting: Hosted, count: int) -> list[socket.socket]:
    """Return connections that the server has accepted, each after one answer."""
    made = [socket.create_connection(counting.address, timeout=10) for _ in range(count)]
    for number, connection in enumerate(made, 1):
        connection.sendall(GET)
        received(connection, b"<%d>" % number)
    return made


def test_requests_that_come_together_are_answered_by_one_worker(counting: Hosted) -> None:
    connections = opened(counting, 20)
    for connection in connections:
        connection.sendall(GET)
    numbers = sorted(int(received(connection, b">").rpartition(b"<")[2][:-1]) for connection in connections)
    assert numbers == list(range(21, 41))
    assert counting.server.parked == 1
    for connection in connections:
        connection.close()


def test_a_worker_that_waits_in_a_request_it_went_on_to_leaves_the_rest_of_the_turn_to_others(counting: Hosted) -> None:
    connections = opened(counting, 4)
    waiting = connections[1]
    connections[0].sendall(GET)
    waiting.sendall(GET + b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
    for connection in connections[2:]:
        connection.sendall(GET)
    seen = [received(connection, b">")[-3:] for connection in connections]  # the answer before the one that waits is not held back
    assert sorted(seen) == [b"<5>", b"<6>", b"<8>", b"<9>"]
    waiting.sendall(b"x")
    received(waiting, b"<7>")
    eventually(lambda: counting.server.parked == 2)
    for connection in connections:
        connection.close()


def test_a_body_that_goes_on_in_the_middle_of_a_turn_is_read_and_the_others_are_answered(counting: Hosted) -> None:
    connections = opened(counting, 3)
    connections[1].sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
    eventually(lambda: len(counting.server.busy) == 1)
    connections[0].sendall(GET)
    connections[1].sendall(b"xx")
    connections[2].sendall(GET)
    assert sorted(received(connection, b">")[-3:] for connection in connections) == [b"<4>", b"<5>", b"<6>"]
    eventually(lambda: counting.server.parked == 2)
    for connection in connections:
        connection.close()


def test_no_more_run_than_may_when_they_come_together() -> None:
    with hosted(Counting(), max_concurrent_requests=2) as served:
        connections = opened(served, 5)
        served.app.go.clear()
        for connection in connections:
            connection.sendall(GET)
        eventually(lambda: served.server.running == 2)
        refused = [everything(connection) for connection in connections[2:]]
        assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in refused)
        served.app.go.set()
        assert [received(connection, b">")[-3:] for connection in connections[:2]] == [b"<6>", b"<7>"]
        for connection in connections:
            connection.close()


def test_what_an_exception_cuts_off_is_told_in_the_next_turn(counting: Hosted, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = gevent.get_hub()
    failed: list[object] = []
    monkeypatch.setattr(hub, "handle_error", lambda _context, kind, *_: failed.append(kind))

    class Failing(Connection):
        def on_readable(self) -> None:
            called.append(self)
            raise ValueError("not expected")

    called: list[Connection] = []
    poller = Poller(Core(Settings(), hub))
    pairs = [socket.socketpair() for _ in range(3)]
    for ours, theirs in pairs:
        fd = ours.detach()
        poller.add(fd, Failing(counting.server, Wire(fd, socket.AF_UNIX), ""))
        theirs.send(b"x")
    try:
        eventually(lambda: len(called) == 3)
        assert failed == [ValueError] * 3
    finally:
        poller.close()
        for one in called:
            one.wire.close()
        for _, theirs in pairs:
            theirs.close()


def test_who_gives_way_twice_finds_that_the_others_have_had_what_came(counting: Hosted) -> None:
    left, right = socket.socketpair()
    with left, right:
        connection = Connection(counting.server, Wire(left.detach(), socket.AF_UNIX), "")
        seen: list[bytes] = []
        with counting.server.loop.io(connection.wire.fd, 1) as watcher:
            watcher.start(lambda: seen.append(b"input"))
            right.send(b"x")
            for _ in range(2):  # the loop looks in the first turn and calls in the second; with `gevent.sleep(0)` it may need 50
                connection.give_way()
            watcher.stop()
        connection.wire.close()
    assert seen


class Waiting:
    """Waits in each request until the hub's next callbacks, but in one for ever; tells in which order things happen."""

    def __init__(self) -> None:
        self.count = 0
        self.happened: list[str] = []
        self.greenlets: list[Any] = []
        self.never_woken = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.count += 1
        number = self.count
        hooks.request_id.set(f"id-{number}")
        self.greenlets.append(gevent.getcurrent())
        self.happened.append(f"{number} begins")
        if number != self.never_woken:
            gevent.get_hub().loop.run_callback(gevent.getcurrent().switch)
        here.thread.leave(gevent.get_hub())
        self.happened.append(f"{number} ends")
        assert hooks.request_id.get() == f"id-{number}"
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"<%d>" % number]


@pytest.fixture
def waiting() -> Iterator[Hosted]:
    """A server with three parked workers, and four connections."""
    with hosted(Waiting(), idle_seconds=600, head_seconds=600) as served:
        yield served


def parked(waiting: Hosted, count: int) -> list[socket.socket]:
    """Return connections after as many requests at once: so many workers are parked now."""
    made = [socket.create_connection(waiting.address, timeout=10) for _ in range(count)]
    gevent.sleep(0)
    for connection in made:
        connection.sendall(GET)
    for connection in made:
        received(connection, b">")
    eventually(lambda: waiting.server.parked == count)
    waiting.app.happened.clear()
    waiting.app.greenlets.clear()
    return made


def test_a_handler_that_waits_lets_a_parked_worker_go_on_with_the_turn_without_the_hub(waiting: Hosted) -> None:
    connections = parked(waiting, 3)
    seen: list[tuple[Any, Any]] = []
    before = greenlet.settrace(lambda _event, pair: seen.append(pair))
    try:
        for connection in connections:
            connection.sendall(GET)
        answers = [received(connection, b">")[-3:] for connection in connections]
    finally:
        greenlet.settrace(before)
    assert sorted(answers) == [b"<4>", b"<5>", b"<6>"]
    assert waiting.app.happened == ["4 begins", "5 begins", "6 begins", "4 ends", "5 ends", "6 ends"]
    first, second, third = waiting.app.greenlets
    assert (first, second) in seen
    assert (second, third) in seen
    for connection in connections:
        connection.close()


def test_without_a_parked_worker_the_hub_makes_another_one(waiting: Hosted) -> None:
    connections = parked(waiting, 1) + [socket.create_connection(waiting.address, timeout=10) for _ in range(3)]
    gevent.sleep(0)
    for connection in connections:
        connection.sendall(GET)
    assert sorted(received(connection, b">")[-3:] for connection in connections) == [b"<2>", b"<3>", b"<4>", b"<5>"]
    assert {one.parent for one in waiting.app.greenlets} == {gevent.get_hub()}
    for connection in connections:
        connection.close()


def test_a_request_that_is_killed_after_the_turn_went_on_ends_alone(waiting: Hosted) -> None:
    connections = parked(waiting, 3)
    waiting.app.never_woken = 4
    for connection in connections:
        connection.sendall(GET)
    answers = [received(connection, b">")[-3:] for connection in connections[1:]]
    gevent.get_hub().loop.run_callback(waiting.app.greenlets[0].throw, gevent.GreenletExit)
    assert answers == [b"<5>", b"<6>"]
    assert everything(connections[0]) == b""
    eventually(lambda: waiting.server.parked == 2 and waiting.server.running == 0)
    for connection in connections:
        connection.close()


def test_what_is_refused_while_a_handler_waits_is_not_said_in_its_name(waiting: Hosted, caplog: pytest.LogCaptureFixture) -> None:
    connections = parked(waiting, 2)
    said: list[str | None] = []

    class Names(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("refused"):
                said.append(hooks.request_id.get())

    names = Names()
    caplog.set_level(logging.INFO, logger="nucleon.server")
    logging.getLogger("nucleon.server").addHandler(names)
    try:
        connections[0].sendall(GET)
        connections[1].sendall(b"nonsense\r\n\r\n")
        assert received(connections[0], b">")[-3:] == b"<3>"
        assert connections[1].recv(1000).startswith(b"HTTP/1.1 400 ")
    finally:
        logging.getLogger("nucleon.server").removeHandler(names)
    assert said == [None]
    for connection in connections:
        connection.close()
