"""What is known about commands."""

import pytest

from nucleon.redis.commands import FOREVER, is_stateful, seconds_on_server, spelled


@pytest.mark.parametrize(
    ("args", "seconds"),
    [
        (("GET", "k"), 0.0),
        (("BLPOP", "k", 2), 2.0),
        (("blpop", "k", "0.5"), 0.5),
        (("BLPOP", "k", 0), FOREVER),
        ((b"BRPOP", "k", b"3"), 3.0),
        (("BLMPOP", 1.5, 1, "k", "LEFT"), 1.5),
        (("WAIT", 1, 500), 0.5),
        (("XREAD", "COUNT", 1, "STREAMS", "s", 0), 0.0),
        (("XREAD", b"COUNT", 1, b"BLOCK", 100, b"STREAMS", "s", "$"), 0.1),
        (("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "s", ">"), FOREVER),
        (("BLPOP", "k", "soon"), FOREVER),
        (("BLPOP",), FOREVER),
    ],
)
def test_how_long_a_command_may_wait_on_the_server(args: tuple[object, ...], seconds: float) -> None:
    assert seconds_on_server(args) == pytest.approx(seconds)


def test_commands_that_change_their_connection_are_known_in_every_spelling() -> None:
    for args in (("SELECT", 1), ("select", 1), (b"select", 1), ("CLIENT SETNAME", "x"), ("CLIENT", "setname", "x"), ("HIMPORT SET", "k")):
        assert is_stateful(args)
    for args in (("GET", "SELECT"), ("CLIENT LIST",), ("CLIENT", "KILL"), ("SCRIPT", "LOAD", "x"), ("CLIENT",)):
        assert not is_stateful(args)
    assert spelled((b"client", b"reply", "OFF")) == "CLIENT REPLY"
