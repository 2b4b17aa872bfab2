"""Names and values read from the wire: what is read is what hiredis reads, wherever the octets are cut."""

import random
from typing import Any

import hiredis
import pytest

from nucleon import green
from nucleon.redis import Redis
from nucleon.redis.pairs import read_pairs
from nucleon.secret import Secret

NOT_YET = object()


def theirs(data: bytes, is_text: bool) -> Any:
    """What hiredis reads, as a dict when it is names and values."""
    reader = hiredis.Reader(notEnoughData=NOT_YET, **({"encoding": "utf-8"} if is_text else {}))
    reader.feed(data)
    try:
        reply = reader.gets()
    except (hiredis.ProtocolError, UnicodeDecodeError):
        return None
    if isinstance(reply, list) and len(reply) % 2 == 0:
        return dict(zip(reply[::2], reply[1::2], strict=True))
    return reply


def wire(words: list[bytes], head: bytes = b"*") -> bytes:
    strings = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    return b"%s%d\r\n%s" % (head, len(words) // (2 if head == b"%" else 1), strings)


def agrees(data: bytes, is_text: bool) -> bool:
    """Read it in the middle of a buffer, and compare; True when it was read at all."""
    buffer = bytearray(b"before" + data + b"*2\r\n$1\r\n")
    found, end = read_pairs(buffer, 6, 6 + len(data), is_text)
    if found is None:
        assert end in (6, -1)
        return False
    assert 6 < end <= 6 + len(data)
    assert found == theirs(data[: end - 6], is_text)
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


def test_what_is_something_else_is_left_alone() -> None:
    for data in (
        b"$5\r\nhello\r\n", b":1\r\n", b"-ERR\r\n", b"+OK\r\n", b"*-1\r\n", b"_\r\n",
        b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", b"*2\r\n$1\r\na\r\n$-1\r\n",
        b"*2\r\n$1\r\na\r\n:1\r\n", b"*2\r\n*0\r\n$1\r\na\r\n", b"*9999999999\r\n", b"*2\r\n$99999999999\r\n", b"*2 \r\n", b"*\r\n", b"",
    ):  # fmt: skip
        assert not agrees(data, False)


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
