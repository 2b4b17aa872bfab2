"""Commands on the wire: what is packed is what redis-py packs, to the octet, and what it refuses is refused."""

import random
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as values
from redis.connection import HiredisRespSerializer
from redis.exceptions import DataError

from nucleon.redis.packing import pack

EDGES = (0, 9, 10, 99, 100, 999, 1000, 65535, 65536)


def theirs(args: tuple[Any, ...]) -> bytes:
    return b"".join(HiredisRespSerializer().pack(*args))


@given(values.lists(values.one_of(values.text(), values.binary(), values.integers(), values.floats()), max_size=12))
def test_whatever_a_command_says_it_is_packed_as_redis_py_packs_it(words: list[Any]) -> None:
    args = ("GET", *words)
    assert pack(args) == theirs(args)


@pytest.mark.parametrize(
    "number", [0, 1, -1, 9, 10, -10, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**40, -(10**40)], ids=lambda number: f"{number}"
)
def test_numbers_are_packed_up_to_any_size(number: int) -> None:
    assert pack(("SET", "key", number)) == b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$%d\r\n%d\r\n" % (len(str(number)), number)


@pytest.mark.parametrize("size", EDGES)
def test_lengths_of_any_number_of_digits_are_written(size: int) -> None:
    assert pack(("SET", "key", b"x" * size)) == b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$%d\r\n%s\r\n" % (size, b"x" * size)


@pytest.mark.parametrize("count", EDGES)
def test_commands_may_have_any_number_of_words(count: int) -> None:
    chosen = random.Random(3)
    words = tuple(chosen.choice([1, "ü", b"\x00", "", 10**9]) for _ in range(count))
    assert pack(("DEL", *words)) == theirs(("DEL", *words))


def test_every_second_octet_of_a_view_is_sent_as_such() -> None:
    assert pack(("SET", "key", memoryview(b"a1b2c3")[::2])) == pack(("SET", "key", b"abc"))
    assert pack(("SET", "key", memoryview(bytearray(b"a1b2c3"))[::-2], bytearray(b"x"))) == pack(("SET", "key", b"321", b"x"))


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize("word", [bytearray(b"octets"), memoryview(b"octets"), 1.5, float("inf"), Colour.RED], ids=repr)
def test_what_is_rarer_is_packed_too(word: Any) -> None:
    assert pack(("SET", "key", word)) == theirs(("SET", "key", word))


@pytest.mark.parametrize("word", [None, object(), [], {}, Decimal(1), True], ids=lambda word: type(word).__name__)
def test_what_is_no_text_number_or_octets_is_refused_as_redis_py_refuses_it(word: Any) -> None:
    try:
        expected: bytes | None = theirs(("SET", "key", word))
    except DataError:
        expected = None
    if expected is None:
        with pytest.raises(DataError):
            pack(("SET", "key", word))
    else:
        assert pack(("SET", "key", word)) == expected


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises((UnicodeEncodeError, DataError)) as ours:
        pack(("SET", "key", "\ud800"))
    with pytest.raises((UnicodeEncodeError, DataError)) as expected:
        theirs(("SET", "key", "\ud800"))
    assert ours.type is expected.type
