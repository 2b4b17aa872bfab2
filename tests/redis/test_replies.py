"""Replies read from the wire: what is read is what hiredis reads, wherever the octets are cut."""

import random
from typing import Any

import hiredis
import pytest

from nucleon import green
from nucleon.redis import Redis
from nucleon.redis import replies as replies_module
from nucleon.redis.replies import OTHER, UNREAD, Replies
from nucleon.secret import Secret

NOT_YET = object()
COMPILED = not replies_module.__file__.endswith(".py")


def theirs(data: bytes, is_text: bool) -> Any:
    """What hiredis reads, as a dict when it is names and values."""
    decoding: dict[str, Any] = {"encoding": "utf-8"} if is_text else {}
    reader = hiredis.Reader(notEnoughData=NOT_YET, **decoding)
    reader.feed(data)
    try:
        reply = reader.gets()
    except (hiredis.ProtocolError, UnicodeDecodeError) as error:
        return error
    if isinstance(reply, list) and len(reply) % 2 == 0:
        return dict(zip(reply[::2], reply[1::2], strict=True))
    return reply


def wire(words: list[bytes], head: bytes = b"*") -> bytes:
    strings = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    return b"%s%d\r\n%s" % (head, len(words) // (2 if head == b"%" else 1), strings)


def agrees(data: bytes, is_text: bool) -> bool:
    """Read it in the middle of a buffer, and compare; True when it was read at all."""
    buffer = bytearray(b"before" + data + b"*2\r\n$1\r\n")
    replies = Replies()
    found = replies.read(buffer, 6, 6 + len(data), is_text, True)
    if found is UNREAD:
        assert replies.end in (6, OTHER)
        return False
    assert 6 < replies.end <= 6 + len(data)
    expected = theirs(data[: replies.end - 6], is_text)
    assert (found, type(found)) == (expected, type(expected))
    return True


@pytest.mark.parametrize("is_text", [False, True])
def test_whatever_is_read_is_what_hiredis_reads(is_text: bool) -> None:
    chosen = random.Random(7)
    pool = [b"", b"a", b"name", "für".encode(), b"\xff", b"x" * 70, b"\r\n", b"$1\r\n", b"0" * 300]
    for _ in range(1000):
        names = chosen.sample([*pool, *(b"%d" % number for number in range(70))], chosen.choice([0, 1, 2, 5, 70]))
        data = wire([word for name in names for word in (name, chosen.choice(pool))], chosen.choice([b"*", b"%"]))
        agrees(data, is_text)
        cut = chosen.randrange(len(data))
        agrees(data[:cut], is_text)
        spoilt = bytearray(wire(names * 2))  # names of an array: hiredis makes something else of a map that has one twice
        spoilt[cut % len(spoilt)] = chosen.choice(b"$*%:-+\r\n059\x00\xff_")
        if not spoilt.startswith(b"%"):
            agrees(bytes(spoilt), is_text)


@pytest.mark.parametrize("is_text", [False, True])
def test_strings_numbers_and_nothing_are_read_as_hiredis_reads_them(is_text: bool) -> None:
    chosen = random.Random(11)
    whole = [
        b"$-1\r\n", b"_\r\n", b"+OK\r\n", b"+\r\n", b"$0\r\n\r\n", b"$5\r\nhello\r\n", b"$2\r\n\r\n\r\n", "$3\r\nü!\r\n".encode(),
        b"$1\r\n\xff\r\n", b"+\xff\r\n", b":0\r\n", b":7\r\n", b":-7\r\n", b":123456789012345678\r\n", b":-9223372036854775808\r\n",
        b"$70000\r\n" + b"x" * 70000 + b"\r\n",
    ]  # fmt: skip
    read = 0
    for data in whole:
        read += agrees(data, is_text)
        for cut in range(min(len(data), 12)):
            assert not agrees(data[:cut], is_text)
        for _ in range(200):
            spoilt = bytearray(data[:40])
            spoilt[chosen.randrange(len(spoilt))] = chosen.choice(b"$*%:-+\r\n059\x00\xff_a")
            agrees(bytes(spoilt), is_text)
    if COMPILED:
        assert read == len(whole) - 1 - 2 * is_text  # the number of 19 digits is hiredis's, and so is what is no UTF-8


def test_what_is_something_else_is_left_alone() -> None:
    for data in (
        b"-ERR\r\n", b"*-1\r\n", b"#t\r\n", b",1.5\r\n", b"(1\r\n", b">1\r\n+a\r\n", b"~0\r\n", b"=7\r\ntxt:abc\r\n", b"hello",
        b"HTTP/1.1 200",
        b":\r\n", b":+1\r\n", b":-0\r\n", b":01\r\n", b": 1\r\n", b"$-2\r\n", b"$+1\r\na\r\n", b"_x\r\n", b"+a\rb\r\n", b"+a\n",
        b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", b"*2\r\n$1\r\na\r\n$-1\r\n",
        b"*2\r\n$1\r\na\r\n:1\r\n", b"*2\r\n*0\r\n$1\r\na\r\n", b"*9999999999\r\n", b"*2\r\n$99999999999\r\n", b"*2 \r\n", b"*\r\n", b"",
    ):  # fmt: skip
        assert not agrees(data, False), data


def test_what_cannot_become_a_reply_is_not_waited_for() -> None:
    replies = Replies()
    for data in (b"h", b"HTTP/1.1 200", b"-", b"#", b"\x00", b"$x\r\n", b"+a\rb\n"):
        assert replies.read(bytearray(data), 0, len(data), False, True) is UNREAD
        assert replies.end == OTHER, data


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("is_text", [False, True])
def test_hashes_among_other_replies_come_whole_and_in_order(redis_url: str, protocol: int, is_text: bool) -> None:
    """More than one read takes, cut anywhere, with other replies and killed greenlets between."""
    redis = Redis(url=Secret(redis_url), protocol=protocol, decode_responses=is_text)
    sizes = [0, 1, 50, 200, 50, 1000]
    expected: dict[int, Any] = {}
    for size in sizes:
        pairs = {f"field {number}": f"value {size} {number}" * (size % 7 + 1) for number in range(size)}
        if pairs:
            redis.hset(f"h{size}", mapping=pairs)
        redis.set(f"s{size}", size)
        expected[size] = pairs if is_text else {name.encode(): value.encode() for name, value in pairs.items()}
    wrong: list[object] = []

    def work(seed: int) -> None:
        chosen = random.Random(seed)
        for _ in range(12):
            size = chosen.choice(sizes)
            if chosen.random() < 0.2:
                assert int(redis.get(f"s{size}")) == size
            elif redis.hgetall(f"h{size}") != expected[size]:
                wrong.append(size)

    workers = [green.spawn(work, seed) for seed in range(40)]
    for victim in workers[::8]:
        green.sleep(0.002)
        victim.kill()
    for worker in workers:
        worker.get()
    assert not wrong
    redis.set_response_callback("HGETALL", len)
    assert redis.hgetall("h50") == (50 if protocol == 3 else 100)
    redis.stop()


def test_who_reads_the_same_names_again_may_change_what_it_got(redis_url: str) -> None:
    redis = Redis(url=Secret(redis_url))
    redis.hset("h", mapping={"a": 1, "b": 2})
    first = redis.hgetall("h")
    first[b"a"] = b"changed"
    redis.hset("other", mapping={"a": 3, "c": 4})
    assert redis.hgetall("other") == {b"a": b"3", b"c": b"4"}
    assert redis.hgetall("h") == {b"a": b"1", b"b": b"2"}
    assert redis.hgetall("absent") == {}
    redis.stop()


@pytest.mark.parametrize("protocol", [2, 3])
def test_values_that_look_like_replies_stay_values(redis_url: str, protocol: int) -> None:
    """Wherever a read ends inside of them, and whatever was complete before."""
    redis = Redis(url=Secret(redis_url), protocol=protocol)
    looks = [b"$1\r\na\r\n", b":1\r\n", b"+a\r\n", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"$-1\r\n"]
    values = [look * (200_000 // len(look)) for look in looks] + [look * 3 for look in looks]
    for place, value in enumerate(values):
        redis.set(f"v{place}", value)
        redis.hset(f"h{place}", mapping={b"first": value, b"second": value[:50]})

    def work(place: int) -> None:
        for _ in range(10):
            assert redis.get(f"v{place}") == values[place]
            assert redis.hgetall(f"h{place}") == {b"first": values[place], b"second": values[place][:50]}
            assert redis.lrange("absent", 0, -1) == []

    workers = [green.spawn(work, place) for place in range(len(values)) for _ in range(3)]
    for worker in workers:
        worker.get()
    redis.stop()
