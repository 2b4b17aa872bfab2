"""Compares our reader with httptools (llhttp) and h11, as a program: `python tests/http/differential.py --seconds 600`.

Inputs are the case table, the fuzzer's corpus, and mutations of both. Each difference is counted under what was read differently and
what the stricter side said. Prints one table; a difference without an explanation below ends with 1 and an input that shows it.
"""
# ruff: noqa: E402, E501  (the files beside this one are found first; one explanation is one line)

import argparse
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "server")]

import fuzz
import h11
import httptools
from http_cases import CASES
from reading import Reader

from nucleon.http import Limits

WIDE = Limits(request_line_bytes=8192, field_bytes=8192, fields=100, head_bytes=65_536, chunk_extension_bytes=4096, body_bytes=2**40)
LONGEST_BYTES = 2_000


@dataclass
class Reading:
    """What one reader saw: whole requests as (method, target, body), and why it stopped ("" when it did not)."""

    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    refused: str = ""


def ours(data: bytes) -> Reading:
    reader = Reader(WIDE)
    reader.receive(data)
    return Reading([(one.method, one.target, one.body) for one in reader.requests], reader.reason)


class Callbacks:
    """What httptools calls."""

    def __init__(self) -> None:
        self.seen = Reading()
        self.target = self.body = b""

    def on_message_begin(self) -> None:
        self.target = self.body = b""

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.seen.requests.append((self.parser.get_method().decode(), self.target.decode("latin-1"), self.body))


def by_httptools(data: bytes) -> Reading:
    callbacks = Callbacks()
    callbacks.parser = parser = httptools.HttpRequestParser(callbacks)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        callbacks.seen.refused = "upgrade"
    except httptools.HttpParserError as wrong:
        callbacks.seen.refused = str(wrong) or type(wrong).__name__
    return callbacks.seen


def by_h11(data: bytes) -> Reading:
    seen, connection = Reading(), h11.Connection(h11.SERVER, max_incomplete_event_size=65_536)
    connection.receive_data(data)
    method = target = ""
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                method, target, body = event.method.decode(), event.target.decode("latin-1"), b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                seen.requests.append((method, target, body))
                connection.send(h11.Response(status_code=404, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    seen.refused = "the connection ends here"
                    break
                connection.start_next_cycle()
            else:
                break
    except h11.RemoteProtocolError as wrong:
        seen.refused = str(wrong)
    return seen


def difference(mine: Reading, theirs: Reading) -> str:
    """Name how the readings differ, "" for not at all. How early a hopeless request is refused, and why, is no difference."""
    common = min(len(mine.requests), len(theirs.requests))
    for at, (one, other) in enumerate(zip(mine.requests[:common], theirs.requests[:common], strict=True)):
        if one != other:
            what = next(name for name, a, b in zip(("method", "target", "body"), one, other, strict=True) if a != b)
            return f"request {'1' if at == 0 else 'n'}: another {what}"
    if len(mine.requests) < len(theirs.requests):
        return f"ours refuses: {_general(mine.refused)}"
    if len(mine.requests) > len(theirs.requests):
        return f"theirs refuses: {_general(theirs.refused)}"
    return ""


def _general(reason: str) -> str:
    """Take the details out of a reason."""
    return re.sub(r"b?(['\"]).*\1|[0-9]+", "_", reason)


SPLICES = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b",", b"0", b"5", b"-", b"+", b"chunked", b"Content-Length: 5\r\n", b"\x00", b"\x0b", b"\xa0",
    b"Transfer-Encoding: chunked\r\n", b"Host: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"HTTP/1.0", b"//",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"X: y\r\n", b"%2e", b"\x7f", b"\xc3\xa9", b"_", b"http://y/", b"*",
]  # fmt: skip


def inputs(chance: random.Random, seconds: float) -> Iterator[bytes]:
    """Yield the seeds once, then mutations of them until the time is over."""
    seeds = [case.sent for case in CASES if len(case.sent) <= LONGEST_BYTES] + fuzz.corpus()
    yield from seeds
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            at, size = chance.randint(0, len(data)), chance.choice([0, 0, 1, 1, 2, 5])
            data[at : at + size] = chance.choice(SPLICES)
        if chance.random() < 0.2:
            data += chance.choice(seeds)
        yield bytes(data)


@dataclass
class Found:
    """One kind of difference: how often, and the shortest input that shows it."""

    times: int = 0
    example: bytes = b""

    def add(self, data: bytes) -> None:
        self.times += 1
        if not self.example or len(data) < len(self.example):
            self.example = data


ORACLES: dict[str, Callable[[bytes], Reading]] = {"httptools": by_httptools, "h11": by_h11}
EXPLANATIONS = [
    # oracle, what the difference looks like, why it is meant
    ("both", "ours refuses: Content-Length is not a number", "a list of equal lengths may be refused (RFC 9112 6.3); more than 18 digits are no length"),
    ("both", "ours refuses: Content-Length together", "the front may frame by the other one: request smuggling (RFC 9112 6.1, 11.2)"),
    ("both", "ours refuses: Transfer-Encoding in HTTP", "a 1.0 sender cannot know it: the framing is faulty (RFC 9112 6.1)"),
    ("both", "ours refuses: a chunk size line", "`;` without a name, white space around the size: not the grammar of RFC 9112 7.1"),
    ("both", "ours refuses: a (bare|field)", "a bare LF or CR, obs-fold, control characters (RFC 9112 2.2, 5.2; RFC 9110 5.5)"),
    ("both", "ours refuses: more than one (host|content|transfer|expect|authorization)", "a singleton sent twice: front and server may choose differently (RFC 9110 5.3, RFC 9112 3.2)"),
    ("both", "ours refuses: more than one empty line", "one empty line before a request is tolerated, a flood of them is not (RFC 9112 2.2)"),
    ("both", "ours refuses: no Host", "required in HTTP/1.1 (RFC 9112 3.2)"),
    ("both", "ours refuses: the Host", "not a host and port (RFC 9112 3.2): it would reach redirects and links"),
    ("both", "ours refuses: the only expectation", "417 (RFC 9110 10.1.1)"),
    ("both", "ours refuses: chunked is not the last", "the end of the body cannot be known: 400 (RFC 9112 6.3); chunked twice is not allowed (RFC 9112 7.1)"),
    ("both", "ours refuses: the only transfer coding", "501 for other codings and empty list elements (RFC 9112 6.1)"),
    ("both", "ours refuses: the path", "a path that cannot be decoded to UTF-8 text, or has a NUL, matches no route safely"),
    ("both", "ours refuses: the request (line|target)", "one space between three words, no fragment, one of four forms of target (RFC 9112 3)"),
    ("both", "ours refuses: this HTTP version", "505: only HTTP/1 (RFC 9110 15.6.6)"),
    ("both", "ours refuses: this server opens no tunnels", "501 for CONNECT"),
    ("both", "ours refuses: too many fields", "431: the limit `fields`"),
    ("both", "theirs refuses: (Only Transfer-Encoding|(bad|conflicting) Content-Length|Content-Length can't|Invalid `Transfer-Encoding`|Empty Transfer|Data after)",
     "framing fields in trailers: ours checks the syntax of trailers and drops them all (RFC 9110 6.5.1)"),
    ("both", "ours refuses: $", "`close` wins over `keep-alive`: what follows is not read (RFC 9112 9.3, 9.6)"),
    ("h11", "theirs refuses: no request line", "one empty line before a request is ignored by ours (RFC 9112 2.2 SHOULD)"),
    ("h11", "theirs refuses: the connection ends", "h11 never keeps an HTTP/1.0 connection, ours does for `Connection: keep-alive` (RFC 9112 9.3)"),
    ("httptools", "theirs refuses: Invalid HTTP version", "HTTP/1.2 to 1.9 are read as 1.1 (RFC 9110 2.5 SHOULD)"),
    ("httptools", "theirs refuses: (Expected space|Invalid) .*method", "llhttp knows a list of methods; ours takes any token, routing answers 405 or 501"),
    ("httptools", "theirs refuses: Invalid character in chunk (ext|size)", "llhttp knows no white space around extensions, which the grammar allows (RFC 9112 7.1.1 BWS)"),
    ("h11", "theirs refuses: illegal chunk header", "h11 knows no tab in front of an extension, which the grammar allows (RFC 9112 7.1.1 BWS)"),
    ("httptools", "theirs refuses: Request has invalid `Transfer", "a trailing tab after `chunked` is white space around the value (RFC 9110 5.5)"),
    ("httptools", "upgrade|another body", "llhttp stops at an upgrade; ours ignores the wish to upgrade and answers in HTTP/1.1 (RFC 9110 7.8)"),
]  # fmt: skip


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=600)
    options.add_argument("--seed", type=int, default=None)
    given = options.parse_args()
    found: dict[tuple[str, str], Found] = {}
    count = 0
    for data in inputs(random.Random(given.seed), given.seconds):
        count += 1
        data += b"\r\n\r\n"  # an end to what is left open
        mine = ours(data)
        for name, oracle in ORACLES.items():
            kind = difference(mine, oracle(data))
            if kind:
                found.setdefault((name, kind), Found()).add(data)
    print(f"{count} inputs\n")
    print("| oracle | difference | times | why |\n|---|---|---|---|")
    unexplained = []
    for (name, kind), one in sorted(found.items()):
        why = next((why for oracle, pattern, why in EXPLANATIONS if oracle in (name, "both") and re.search(pattern, kind)), "")
        print(f"| {name} | {kind} | {one.times} | {why or '**unexplained**: `' + repr(one.example) + '`'} |")
        if not why:
            unexplained.append(kind)
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
