"""A client without manners: sends bytes as they are, reads what comes back, and judges it by the table's expectation."""

import ast
import json
import random
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from nucleon import green

PATIENCE_SECONDS = 3.0
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*")
FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*[^\r\n\x00]*")


@dataclass
class Answer:
    """One response as it stood on the wire; framing is "length", "chunked", "close" or "none"."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    framing: str
    complete: bool
    interim: list[int]

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]


@dataclass
class Exchange:
    """What came back: every answer, all bytes, and whether the server closed by itself."""

    answers: list[Answer] = field(default_factory=list)
    wire: bytes = b""
    closed: bool = False
    rest: bytes = b""
    alive: bool = False


def answers_from(wire: bytes, *, ended: bool, head: bool) -> tuple[list[Answer], bytes]:
    """Read as many answers as are there; with ended, a last one may be cut or delimited by the close. head: the first has no body."""
    answers: list[Answer] = []
    interim: list[int] = []
    while wire:
        block, found, after = wire.partition(b"\r\n\r\n")
        if not found:
            break
        first, *lines = block.split(b"\r\n")
        line = STATUS_LINE.fullmatch(first)
        assert line, f"not a status line: {first[:80]!r}"
        for text in lines:
            assert FIELD.fullmatch(text.decode("latin-1")), f"not a field line: {text!r}"
        fields = [(name.lower(), value.strip()) for name, _, value in (text.decode("latin-1").partition(":") for text in lines)]
        status = int(line[1])
        if 100 <= status < 200 and status != 101:
            interim.append(status)
            wire = after
            continue
        bare = status in (101, 204, 304) or (head and not answers)
        taken = body_from(dict(fields), after, ended=ended, bare=bare)
        if taken is None:
            break
        body, framing, complete, wire = taken
        answers.append(Answer(status, fields, body, framing, complete, interim))
        interim = []
    return answers, wire


def body_from(fields: dict[str, str], data: bytes, *, ended: bool, bare: bool) -> tuple[bytes, str, bool, bytes] | None:
    """Return body, framing, whether it is complete, and the bytes behind it; None when more has to come."""
    if bare:
        return b"", "none", True, data
    if fields.get("transfer-encoding") == "chunked":
        return chunked_from(data, ended=ended)
    if "content-length" in fields:
        size = int(fields["content-length"])
        if len(data) < size and not ended:
            return None
        return data[:size], "length", len(data) >= size, data[size:]
    return (data, "close", True, b"") if ended else None


def chunked_from(data: bytes, *, ended: bool) -> tuple[bytes, str, bool, bytes] | None:
    body = bytearray()
    rest = data
    while True:
        line, found, after = rest.partition(b"\r\n")
        size = int(line, 16) if found else 0
        if not found or len(after) < size + 2:
            return (bytes(body), "chunked", False, b"") if ended else None
        assert after[size : size + 2] == b"\r\n", "a chunk without its end"
        body += after[:size]
        rest = after[size + 2 :]
        if size == 0:
            return bytes(body), "chunked", True, rest


def exchange(address: tuple[str, int], parts: Iterable[bytes], expected: str, *, finish: bool, head: bool) -> Exchange:
    """Send the parts, one read of the server apart; read until the expected answers (and a due close) came, then hang up."""
    seen = Exchange()
    with socket.create_connection(address, timeout=PATIENCE_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sender = green.spawn(send_all, connection, parts, finish)
        try:
            converse(connection, seen, expected, head=head)
        except TimeoutError:
            seen.closed = False
        except (ConnectionResetError, BrokenPipeError):
            seen.closed = not seen.alive
        finally:
            sender.kill()
    seen.answers, seen.rest = answers_from(seen.wire, ended=True, head=head)
    if seen.alive:
        seen.answers.pop()
    return seen


def converse(connection: socket.socket, seen: Exchange, expected: str, *, head: bool) -> None:
    wanted, probing, hung_up = answers_wanted(expected), False, False
    while True:
        if len(seen.answers) >= wanted and not hung_up:
            if probing:
                seen.alive = True
            elif "kept alive" in expected:
                connection.sendall(b"GET /probe HTTP/1.1\r\nHost: x\r\n\r\n")
                probing, wanted = True, wanted + 1
            if seen.alive or not (probing or waits_for_close(expected, seen.answers)):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
                hung_up = True
        data = connection.recv(262_144)
        if not data:
            seen.closed = not hung_up
            return
        seen.wire += data
        seen.answers, seen.rest = answers_from(seen.wire, ended=False, head=head)


def send_all(connection: socket.socket, parts: Iterable[bytes], finish: bool) -> None:
    try:
        for part in parts:
            connection.sendall(part)
            green.sleep(0)
        if finish:
            connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the server has closed: the reading side sees what it said


def cuts(data: bytes, seed: str) -> Iterator[bytes]:
    """Cut data at up to five random places, the same for the same seed."""
    places = sorted(random.Random(seed).sample(range(1, len(data)), min(5, len(data) - 1)))
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        yield data[start:end]


# The table's language. An alternative is a list of conditions joined by "; ".


def answers_wanted(expected: str) -> int:
    counts = [int(number) for number in re.findall(r"(?:^| OR |\] )(\d+) x ", expected)]
    return max([1 if "refuse" in expected or "cut short" in expected else 0, *counts])


def waits_for_close(expected: str, answers: list[Answer]) -> bool:
    """A close is due when every alternative has one, or when the server refused."""
    if all(" close" in alternative for alternative in expected.split(" OR ")):
        return True
    return "refuse" in expected and answers[-1].status >= 400


def verdict(expected: str, seen: Exchange, app: Any) -> str | None:
    """Return None when one alternative holds, else what is wrong with each."""
    faults = [fault_of(alternative, seen, app) for alternative in expected.replace("[preferred] ", "").split(" OR ")]
    if None in faults:
        return None
    got = [(answer.status, answer.body[:120], answer.framing) for answer in seen.answers[:4]]
    state = f"closed={seen.closed}, calls={app.calls[:5]}, rest={seen.rest[:80]!r}"
    return f"{' | '.join(map(str, faults))}; answers {len(seen.answers)} {got}, {state}"


def fault_of(alternative: str, seen: Exchange, app: Any) -> str | None:
    if any("smuggled" in path for path in app.calls):
        return "a smuggled request ran"
    for condition in re.split(r"; (?=[a-z0-9]+ )", alternative):
        fault = broken(condition, seen, app)
        if fault:
            return f"{condition}: {fault}"
    return None


def broken(condition: str, seen: Exchange, app: Any) -> str | None:
    word, _, rest = condition.partition(" ")
    if word == "refuse:":
        return refused(rest, seen)
    if word.isdigit():
        return counted(int(word), rest.removeprefix("x "), seen)
    if condition in FLAGS:
        return None if FLAGS[condition](seen, app) else "no"
    value = ast.literal_eval(rest)
    return VALUES[word](value, seen, app)


def refused(codes: str, seen: Exchange) -> str | None:
    if len(seen.answers) != 1:
        return f"{len(seen.answers)} answers"
    answer = seen.answers[0]
    allowed = codes.removesuffix(", close").split("/")
    if str(answer.status) not in allowed and f"{answer.status // 100}xx" not in allowed:
        return f"status {answer.status}"
    if answer.values("content-type") != ["application/problem+json"] or json.loads(answer.body)["status"] != answer.status:
        return "not a problem document"
    return None if seen.closed else "not closed"


def counted(count: int, codes: str, seen: Exchange) -> str | None:
    if len(seen.answers) != count or not all(answer.complete for answer in seen.answers):
        return f"{[(answer.status, answer.complete) for answer in seen.answers]}"
    return None if all(str(answer.status) in codes.split("/") for answer in seen.answers) else f"{[a.status for a in seen.answers]}"


def among(value: Any, allowed: Any) -> bool:
    return value in allowed if isinstance(allowed, tuple) else value == allowed


def first_document(seen: Exchange) -> dict[str, Any]:
    return dict(json.loads(seen.answers[0].body))


def field_fault(expected: dict[str, Any], seen: Exchange, _app: Any) -> str | None:
    document = first_document(seen)
    return next((f"{name} is {document.get(name)!r}" for name, value in expected.items() if not among(document.get(name), value)), None)


def environ_fault(expected: dict[str, Any], seen: Exchange, _app: Any) -> str | None:
    environ = first_document(seen)["env"]
    return next((f"{name} is {environ.get(name)!r}" for name, value in expected.items() if not among(environ.get(name), value)), None)


FLAGS = {
    "app not called": lambda _seen, app: app.calls == [],
    "app never gets a complete body": lambda _seen, app: app.completed == [],
    "then close": lambda seen, _app: seen.closed,
    "kept alive": lambda seen, _app: seen.alive,
    "one framing": lambda seen, _app: not any(a.values("content-length") and a.values("transfer-encoding") for a in seen.answers),
    "cut short": lambda seen, _app: len(seen.answers) == 1 and (not seen.answers[0].complete or seen.answers[0].status == 500),
}
VALUES = {
    "fields": field_fault,
    "env": environ_fault,
    "noenv": lambda names, seen, _app: next((name for name in names if name in first_document(seen)["env"]), None),
    "calls": lambda paths, _seen, app: None if app.calls == paths else f"called {app.calls[:5]}",
    "body": lambda body, seen, _app: None if seen.answers[0].body == body else f"body {seen.answers[0].body[:80]!r}",
    "framing": lambda names, seen, _app: None if seen.answers[0].framing in names else seen.answers[0].framing,
    "interim": lambda allowed, seen, _app: None if seen.answers[0].interim in allowed else f"{seen.answers[0].interim}",
    "answer": lambda data, seen, _app: None if data.lower() in seen.wire.lower() else "not on the wire",
    "absent": lambda data, seen, _app: None if data not in seen.wire else "on the wire",
}
