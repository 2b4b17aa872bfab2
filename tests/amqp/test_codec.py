"""Laws of the codec: decode after encode, any bytes, any cut; and what pamqp says of the same bytes."""

import math
import typing
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pika
import pika.frame
import pika.spec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from pamqp import commands as oracle
from pamqp import decode as oracle_decode
from pamqp import frame as oracle_frame
from pamqp import header as oracle_header

from nucleon.amqp.codec import (
    BY_NUMBER,
    NO_PROPERTIES,
    PROTOCOL_HEADER,
    Command,
    CommandReader,
    FrameReader,
    MalformedFrame,
    Method,
    Properties,
    command_frames,
    decode_method,
    decode_properties,
    encode_method,
    encode_properties,
    encode_table,
    frame,
    method_frame,
    methods,
    read_table,
)
from nucleon.amqp.codec.methods import CARRIES_CONTENT
from nucleon.amqp.codec.wire import steps_from

SHORT = some.text(max_size=60)
MOMENTS = some.datetimes(datetime(1970, 1, 1), datetime(2106, 1, 1)).map(lambda one: one.replace(microsecond=0, tzinfo=UTC))
DECIMALS = some.builds(lambda number, places: Decimal(number).scaleb(-places), some.integers(-(2**31), 2**31 - 1), some.integers(0, 20))
LEAVES = (
    some.none() | some.booleans() | some.integers(-(2**63), 2**63 - 1) | some.floats(allow_nan=False) | SHORT
    | some.binary(max_size=40) | MOMENTS | DECIMALS
)  # fmt: skip
VALUES = some.recursive(LEAVES, lambda inner: some.lists(inner, max_size=4) | some.dictionaries(SHORT, inner, max_size=4), max_leaves=12)
TABLES = some.dictionaries(SHORT, VALUES, max_size=6)
ARGUMENTS = {
    "bit": some.booleans(), "octet": some.integers(0, 255), "short": some.integers(0, 2**16 - 1), "long": some.integers(0, 2**32 - 1),
    "longlong": some.integers(0, 2**64 - 1), "shortstr": SHORT, "longstr": some.binary(max_size=100), "table": TABLES,
}  # fmt: skip
OCTETS = some.integers(0, 255)
PROPERTIES = some.builds(
    Properties, SHORT | some.none(), SHORT | some.none(), TABLES | some.none(), OCTETS | some.none(), OCTETS | some.none(),
    SHORT | some.none(), SHORT | some.none(), SHORT | some.none(), SHORT | some.none(), MOMENTS | some.none(), SHORT | some.none(),
    SHORT | some.none(), SHORT | some.none(),
)  # fmt: skip


def any_of(kind: type[Method]) -> some.SearchStrategy[Method]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return some.builds(kind, *[ARGUMENTS[hints[name].__metadata__[0]] for name in kind.__struct_fields__])


METHODS = some.sampled_from(list(BY_NUMBER.values())).flatmap(any_of)
COMMANDS = METHODS.flatmap(
    lambda method: some.builds(Command, some.integers(0, 2**16 - 1), some.just(method), PROPERTIES, some.binary(max_size=300))
    if type(method) in CARRIES_CONTENT
    else some.builds(Command, some.integers(0, 2**16 - 1), some.just(method))
)


def bytes_of(command: Command) -> bytes:
    if type(command.method) in CARRIES_CONTENT:
        return command_frames(command.channel, command.method, command.properties, command.body, 8192)
    return method_frame(command.channel, command.method)


@given(TABLES)
@settings(deadline=None)
def test_a_table_is_read_as_it_was_written(table: dict[str, Any]) -> None:
    encoded = encode_table(table)
    assert read_table(encoded, 0) == (table, len(encoded))


@given(METHODS)
@settings(deadline=None)
def test_a_method_is_read_as_it_was_written(method: Method) -> None:
    assert decode_method(encode_method(method)) == method


@given(PROPERTIES)
@settings(deadline=None)
def test_properties_are_read_as_they_were_written(properties: Properties) -> None:
    assert decode_properties(encode_properties(properties)) == properties


@given(some.lists(COMMANDS, max_size=5), some.data())
@settings(deadline=None)
def test_commands_survive_every_cut(commands: list[Command], data: Any) -> None:
    stream = PROTOCOL_HEADER + b"".join(map(bytes_of, commands))
    cuts = sorted(data.draw(some.lists(some.integers(0, len(stream)), max_size=8)))
    reader = CommandReader(from_client=True, frame_max=131_072)
    seen = [one for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True) for one in reader.feed(stream[start:end])]
    assert seen == commands
    assert reader.started


@given(some.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_commands_or_the_protocols_error(stream: bytes) -> None:
    with suppress(MalformedFrame):
        CommandReader().feed(stream)


@given(some.sampled_from([1, 2]), some.sampled_from(list(BY_NUMBER)), some.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_payload_gives_a_command_or_the_protocols_error(kind: int, number: int, rest: bytes) -> None:
    start = number.to_bytes(4, "big") if kind == 1 else b"\x00\x3c\x00\x00"
    deliver = method_frame(1, methods.BasicDeliver("tag", 1)) if kind == 2 else b""
    with suppress(MalformedFrame):
        CommandReader().feed(deliver + frame(kind, 1, start + rest))


@given(COMMANDS, some.integers(0, 4000), OCTETS)
@settings(deadline=None)
def test_one_changed_byte_gives_commands_or_the_protocols_error(command: Command, place: int, octet: int) -> None:
    stream = bytearray(bytes_of(command))
    stream[place % len(stream)] = octet
    reader = CommandReader()
    with suppress(MalformedFrame):
        reader.feed(bytes(stream))
    assert reader.frames.waiting_bytes <= len(stream)


def test_every_method_of_pamqp_is_known_and_no_other() -> None:
    theirs = {number: kind for number, kind in oracle.INDEX_MAPPING.items() if number >> 16 != 30}
    extensions = {methods.ConnectionUpdateSecret.number, methods.ConnectionUpdateSecretOk.number}
    assert set(BY_NUMBER) - extensions == set(theirs) - extensions


RENAMED = {
    "kind": "exchange_type", "shared": "globally", "code": "reply_code", "text": "reply_text", "method_class": "class_id",
    "vhost": "virtual_host",
}  # fmt: skip
ODD = {"ConnectionUpdateSecret", "ChannelOpen", "ChannelOpenOk", "BasicQos", "BasicRecoverAsync"}
"""pamqp names their arguments otherwise, writes "0" into reserved strings, or warns."""
SAMPLES: dict[str, Any] = {
    "bit": True, "octet": 9, "short": 300, "long": 70_000, "longlong": 2**40, "longstr": b"text", "table": {"a": "b"},
}  # fmt: skip


def wire_of(kind: type[Method], name: str) -> str:
    return str(typing.get_type_hints(kind, include_extras=True)[name].__metadata__[0])


COMPARED = [one for one in BY_NUMBER.values() if one.number in oracle.INDEX_MAPPING and one.__name__ not in ODD]


@pytest.mark.parametrize("kind", COMPARED, ids=lambda kind: kind.__name__)
def test_pamqp_writes_the_same_bytes(kind: type[Method]) -> None:
    fields = [name for name in kind.__struct_fields__ if not name.startswith("reserved")]
    method = kind(**{name: SAMPLES.get(wire_of(kind, name), "direct") for name in fields})
    theirs = oracle.INDEX_MAPPING[kind.number]
    arguments = {RENAMED.get(name, name): getattr(method, name) for name in fields}
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in arguments.items()}
    assert oracle_frame.marshal(theirs(**texts), 7) == method_frame(7, method)


SIMPLE = some.booleans() | some.integers(-(2**31), 2**31 - 1) | SHORT | MOMENTS | some.none()


@given(some.dictionaries(SHORT.filter(bool), SIMPLE, max_size=6))
@settings(deadline=None)
def test_pamqp_reads_the_same_table(table: dict[str, Any]) -> None:
    assert oracle_decode.field_table(encode_table(table))[1] == table


def test_pamqp_reads_the_same_content_header() -> None:
    properties = Properties("text/plain", headers={"a": 1}, delivery_mode=2)
    stream = command_frames(3, methods.BasicPublish(exchange="e", routing_key="k"), properties, b"hello", 8192)
    seen = []
    while stream:
        size, channel, part = oracle_frame.unmarshal(stream)
        assert channel == 3
        seen.append(part)
        stream = stream[size:]
    publish, header, body = seen
    assert (publish.exchange, publish.routing_key, body.value) == ("e", "k", b"hello")
    assert isinstance(header, oracle_header.ContentHeader)
    assert (header.body_size, header.properties.content_type, header.properties.headers) == (5, "text/plain", {"a": 1})


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (b"b\xff", -1), (b"B\xff", 255), (b"s\xff\xfe", -2), (b"u\xff\xfe", 65534), (b"I\xff\xff\xff\xff", -1),
        (b"i\xff\xff\xff\xff", 2**32 - 1), (b"l" + b"\xff" * 8, -1), (b"L" + b"\xff" * 8, -1), (b"f\x3f\x80\0\0", 1.0),
        (b"d\x3f\xf0\0\0\0\0\0\0", 1.0), (b"t\x02", True), (b"D\x02\0\0\x01\0", Decimal("2.56")), (b"S\0\0\0\x02hi", "hi"),
        (b"S\0\0\0\x01\xff", b"\xff"), (b"x\0\0\0\x01\xff", b"\xff"), (b"V", None), (b"A\0\0\0\x04t\x01VV", [True, None, None]),
        (b"T\0\0\0\0\0\0\0\x3c", datetime(1970, 1, 1, 0, 1, tzinfo=UTC)), (b"T" + b"\xff" * 8, 2**64 - 1),
        (b"F\0\0\0\x03\x01kV", {"k": None}),
    ],
)  # fmt: skip
def test_every_field_type_is_read(wire: bytes, value: Any) -> None:
    field = b"\x01n" + wire
    assert read_table(len(field).to_bytes(4, "big") + field, 0)[0] == {"n": value}


def test_nested_tables_are_bounded_both_ways() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"d": deep}
    with pytest.raises(ValueError, match="nested deeper than 64"):
        encode_table(deep)
    wire = b"\0\0\0\0"
    for _ in range(100):
        field = b"\x01dF" + wire
        wire = len(field).to_bytes(4, "big") + field
    with pytest.raises(MalformedFrame, match="nested deeper than 64"):
        read_table(wire, 0)


@pytest.mark.parametrize(
    ("stream", "what", "code"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "not AMQP", 501),
        (b"AMQP\x00\x01\x00\x00", "another version", 501),
        (b"\x01\x00\x01\xff\xff\xff\xff", "more than the agreed 8192", 501),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00", "does not end with 0xCE", 501),
        (frame(1, 1, b"\x00\x3c"), "too short", 502),
        (frame(1, 1, b"\x00\x3c\x03\xe7"), "unknown method", 503),
        (frame(3, 1, b"x"), "without its method", 505),
        (method_frame(1, methods.BasicDeliver()) * 2, "in the middle of a message", 505),
        (method_frame(1, methods.BasicDeliver()) + frame(3, 1, b"x"), "kind 3", 505),
    ],
)
def test_hostile_streams_name_their_fault(stream: bytes, what: str, code: int) -> None:
    with pytest.raises(MalformedFrame, match=what) as caught:
        CommandReader().feed(stream)
    assert caught.value.code == code


def test_a_body_larger_than_the_limit_is_refused_before_it_comes() -> None:
    header = b"\x00\x3c\x00\x00" + (2**40).to_bytes(8, "big") + b"\0\0"
    with pytest.raises(MalformedFrame, match="more than the limit"):
        CommandReader().feed(method_frame(1, methods.BasicDeliver()) + frame(2, 1, header))


def test_a_body_may_not_be_longer_than_announced() -> None:
    header = b"\x00\x3c\x00\x00" + (3).to_bytes(8, "big") + b"\0\0"
    with pytest.raises(MalformedFrame, match="content with 3 bytes to come"):
        CommandReader().feed(method_frame(1, methods.BasicDeliver()) + frame(2, 1, header) + frame(3, 1, b"four"))


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({"k" * 256: 1}, "255 bytes at most"), ({"k": 2**63}, "64 bits"), ({"k": datetime(2020, 1, 1)}, "no time zone"),
        ({"k": datetime(1970, 1, 1, tzinfo=UTC) - timedelta(days=1)}, "before 1970"), ({"k": Decimal("NaN")}, "not a number"),
        ({"k": Decimal(2**40)}, "32 bits"), ({"k": object()}, "cannot hold object"),
    ],
)  # fmt: skip
def test_what_a_table_cannot_hold_is_an_error_of_the_caller(table: dict[str, Any], what: str) -> None:
    with pytest.raises((ValueError, TypeError), match=what):
        encode_table(table)


def test_floats_keep_their_infinities() -> None:
    table, _ = read_table(encode_table({"a": math.inf, "b": math.nan}), 0)
    assert table["a"] == math.inf and math.isnan(table["b"])


def test_headers_larger_than_a_frame_are_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="shorten its headers"):
        command_frames(1, methods.BasicPublish(), Properties(headers={"a": "x" * 9000}), b"", 8192)


def test_steps_pack_neighbouring_bits_and_numbers() -> None:
    assert [names for names, _, _ in steps_from(methods.BasicQos)] == [("prefetch_size", "prefetch_count"), ("shared",)]


def test_empty_bodies_and_bodies_of_many_frames() -> None:
    for size in (0, 1, 8183, 8184, 8185, 50_000):
        body = bytes(range(256)) * (size // 256 + 1)
        stream = command_frames(1, methods.BasicPublish(), NO_PROPERTIES, body[:size], 8192)
        (command,) = CommandReader().feed(stream)
        assert command.body == body[:size]
        assert all(len(payload) <= 8184 for _, _, payload in FrameReader().feed(stream))


PIKA_METHODS = [
    (pika.spec.Basic.Deliver("tag", 2**40, True, "exchange", "key"), methods.BasicDeliver("tag", 2**40, True, "exchange", "key")),
    (pika.spec.Basic.Publish(0, "exchange", "key", True), methods.BasicPublish(0, "exchange", "key", True)),
    (pika.spec.Basic.Qos(0, 100, True), methods.BasicQos(0, 100, True)),
    (pika.spec.Basic.Nack(7, True, False), methods.BasicNack(7, True, False)),
    (pika.spec.Queue.Declare(0, "q", durable=True, arguments={"x": 1}), methods.QueueDeclare(0, "q", durable=True, arguments={"x": 1})),
    (pika.spec.Exchange.Declare(0, "e", "topic", durable=True), methods.ExchangeDeclare(0, "e", "topic", durable=True)),
    (pika.spec.Connection.UpdateSecret(b"new", "why"), methods.ConnectionUpdateSecret(b"new", "why")),
    (pika.spec.Channel.Open(), methods.ChannelOpen()),
]


@pytest.mark.parametrize(("theirs", "ours"), PIKA_METHODS, ids=lambda one: type(one).__name__)
def test_pika_writes_the_same_bytes(theirs: Any, ours: Method) -> None:
    assert pika.frame.Method(9, theirs).marshal() == method_frame(9, ours)


@given(some.dictionaries(SHORT.filter(bool), some.booleans() | some.integers(-(2**63), 2**63 - 1) | SHORT | some.none(), max_size=6))
@settings(deadline=None)
def test_pika_reads_the_same_properties(headers: dict[str, Any]) -> None:
    ours = Properties("text/plain", headers=headers, delivery_mode=2, priority=9, message_id="m", expiration="60000")
    theirs = pika.BasicProperties().decode(encode_properties(ours))
    assert (theirs.headers, theirs.content_type, theirs.delivery_mode) == (headers, "text/plain", 2)
    assert (theirs.priority, theirs.message_id, theirs.expiration) == (9, "m", "60000")
