"""What a command is called decides where it runs: nothing that would change or confuse a shared connection may get onto one."""

from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest
from redis.exceptions import DataError

from nucleon import green
from nucleon.errors import Unavailable
from nucleon.redis import Redis
from nucleon.redis.commands import BLOCKING, FOREVER, is_stateful, seconds_on_server
from nucleon.redis.shared import PLANS
from nucleon.secret import Secret
from nucleon.testing.waiting import eventually


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    client = Redis(url=Secret(redis_url), max_connections=3, wait_seconds=0.3, socket_seconds=0.5)
    client.set("k", "v")
    yield client
    client.stop()


@pytest.mark.parametrize("name", ["", "  ", b"", b" \r\n"])
def test_a_command_without_a_name_is_refused_and_nobody_gets_the_reply_of_another(redis: Redis, name: Any) -> None:
    for ask in (redis.execute_command, redis.pipeline(transaction=False).execute_command, redis.pipeline().execute_command):
        with pytest.raises(DataError, match="needs a name"):
            ask(name)
    with redis.client() as one, pytest.raises(DataError, match="needs a name"):
        one.execute_command(name)
    assert [redis.get("k"), redis.echo("e")] == [b"v", b"e"]  # type: ignore[no-untyped-call]
    assert redis._multiplexer.opened == 1


@pytest.mark.parametrize(
    "command",
    ["SELECT 1", b"select 1", " SELECT  1", "MULTI ", "CLIENT REPLY OFF", "client  no-touch on", "SUBSCRIBE channel", "MONITOR "],
    ids=repr,
)
def test_a_command_that_is_written_in_one_word_changes_no_shared_connection(redis: Redis, command: Any) -> None:
    assert is_stateful((command,))
    before = redis._multiplexer.links[0]
    if b"REPLY" not in (command if isinstance(command, bytes) else command.encode()):  # which is not answered
        redis.execute_command(command)
    else:
        with pytest.raises(Unavailable):
            redis.execute_command(command)
    assert redis.get("k") == b"v"
    assert redis._multiplexer.links == [before]
    with redis.client() as one:
        assert one.get("k") == b"v"


def test_a_command_that_a_server_does_not_answer_costs_nobody_else_a_reply(redis: Redis) -> None:
    unanswered = green.spawn(redis.execute_command, "REPLCONF", "ACK", 0)
    eventually(lambda: "; 1 of " in repr(redis))  # on a connection of its own
    assert redis.get("k") == b"v"
    with pytest.raises(Unavailable):
        unanswered.get()


@pytest.mark.parametrize("command", ["SELECT 1", "SELECT", "select"])
def test_a_pipeline_that_changes_its_connection_leaves_nothing_to_the_next(redis: Redis, command: str) -> None:
    for is_transaction in (True, False):
        with redis.pipeline(transaction=is_transaction) as pipeline:
            pipeline.execute_command(*((command,) if " " in command else (command, 1)))
            pipeline.get("k")
            assert pipeline.execute()[1] is None  # the other database
        assert redis.get("k") == b"v"
        with redis.client() as one:
            assert one.get("k") == b"v"


def test_a_large_transaction_may_keep_its_connection(redis: Redis) -> None:
    for _ in range(3):
        with redis.pipeline() as pipeline:
            assert pipeline.set("large", b"x" * 100_000).strlen("large").execute() == [True, 100_000]
    with redis.client() as one:
        assert one.client_info()["cmd"] == "client|info"
        assert int(one.client_info()["tot-cmds"]) > 12


def test_a_command_in_one_word_that_waits_keeps_nobody_waiting(redis: Redis) -> None:
    waiting = green.spawn(redis.execute_command, "BLPOP never 5")
    eventually(lambda: "; 1 of " in repr(redis))  # on a connection of its own
    assert redis.get("k") == b"v"
    assert not waiting.ready()
    waiting.kill()
    assert "; 0 of " in repr(redis)


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        (("XREAD", "BLOCK", 1500, "STREAMS", "s", "$"), 1.5),
        (("xread", "count", 1, bytearray(b"block"), 0, "streams", "s", "$"), FOREVER),
        (("XREAD", "STREAMS", "block", "0"), 0.0),
        (("XREADGROUP", "GROUP", "block", "block", "COUNT", 1, "STREAMS", "s", ">"), 0.0),
        (("XREADGROUP", "GROUP", "g", "c", "NOACK", "COUNT", 1, "CLAIM", 5, "BLOCK", 250, "STREAMS", "s", ">"), 0.25),
        (("XREADGROUP", "BLOCK", 250, "GROUP", "g", "c", "STREAMS", "s", ">"), 0.25),
        (("XREAD BLOCK", 250, "STREAMS", "s", "$"), 0.25),
        (("BLPOP a b 3",), 3.0),
    ],
)
def test_how_long_a_command_may_wait_is_known(command: tuple[Any, ...], seconds: float) -> None:
    assert seconds_on_server(command) == seconds


def test_all_commands_of_the_server_that_wait_are_known(redis: Redis) -> None:
    waiting = {name.upper() for name, about in redis.command().items() if "blocking" in about["flags"]}
    assert waiting - set(BLOCKING) == set()


def test_a_pipeline_has_the_patience_that_its_commands_ask_for(redis: Redis) -> None:
    with redis.pipeline(transaction=False) as pipeline:
        assert pipeline.blpop(["never"], 0.8).get("k").execute() == [None, b"v"]


def test_names_that_an_application_makes_up_are_not_remembered_for_ever(redis: Redis) -> None:
    for number in range(PLANS + 50):
        assert redis.execute_command(f"GET k{number}") is None
    assert len(redis._plans) == PLANS
    assert redis.hset("h", "a", 1) == 1


class Name(str, Enum):  # noqa: UP042  a StrEnum gives its value as text, this one its name
    GET = "GET"
    SELECT = "SELECT"


def test_a_name_may_be_any_text(redis: Redis) -> None:
    assert redis.execute_command(Name.GET, "k") == b"v"
    assert redis.execute_command(b"get", "k") == b"v"
    assert redis.execute_command(" GET ", "k") == b"v"
    redis.execute_command(Name.SELECT, 1)
    assert redis.get("k") == b"v"
