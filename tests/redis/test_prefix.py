"""A prefix before every key: held to what the server says are keys, and to the answers of a client without one."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from private_servers import PrivateValkey
from redis.exceptions import DataError, RedisError
from redis_script import SCRIPTS, Step

from nucleon.redis import Redis
from nucleon.redis.keys import KEYLESS, REFUSED, REPLIES, RULES, prefixed
from nucleon.redis.pipeline import Pipeline
from nucleon.secret import Secret

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")  # they have to work all the same

PREFIX = "sh*p:"  # with a character that patterns know
STEPS = [one for script in SCRIPTS.values() for one in script]
ODD = {"GEORADIUS", "GEORADIUSBYMEMBER", "KEYS", "SCAN", "SORT", "SORT_RO", "XREAD", "XREADGROUP"}
TELLS_KEYS = {"eval", "flushdb", "swapdb", "command_getkeys", "acl_getuser", "dump", "acl_setuser", "script_flush"}


class Recorder(redis_py.Redis):
    """Collects commands and sends none."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self.seen = args
        raise ConnectionAbortedError



def commands() -> Iterator[tuple[Any, ...]]:
    recorder = Recorder()
    for name, args, options in STEPS:
        try:
            getattr(recorder, name)(*args, **options)
        except ConnectionAbortedError:
            yield recorder.seen
        except (DataError, TypeError, ValueError, RedisError):
            continue
    yield ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "a", "b", ">", ">")
    yield ("SORT", "a", "BY", "w_*", "LIMIT", 0, 5, "GET", "#", "GET", "o_*", "STORE", "b")
    yield ("ZUNIONSTORE", "d", 2, "a", "b", "WEIGHTS", 1, 2)
    yield ("GEORADIUS", "a", 1, 1, 1, "m", "STORE", "b")
    yield ("BITOP", "AND", "d", "a", "b")


def test_the_keys_are_those_that_the_server_names(redis_url: str) -> None:
    plain = redis_py.Redis.from_url(redis_url)
    wrong, compared = [], 0
    for args in commands():
        words = [*str(args[0] if isinstance(args[0], str) else args[0].decode()).split(), *args[1:]]
        name = words[0].upper()
        if name in REFUSED or name in ("KEYS", "SCAN", "NOSUCH"):
            continue
        try:
            keys = plain.execute_command("COMMAND GETKEYS", *words)
        except DataError:
            continue
        except redis_py.ResponseError as error:  # it has none, or the command is wrong
            if "number of arguments" in str(error):
                continue
            keys = []
        changed = [new for old, new in zip(args[1:], prefixed(args, PREFIX)[1:], strict=True) if old != new]
        if name.startswith("SORT"):
            changed = [key for key in changed if b"_" not in _bytes(key)]  # patterns are no keys to the server
        compared += 1
        if sorted(_bytes(key) for key in changed) != sorted(_bytes(PREFIX) + _bytes(key) for key in keys):
            wrong.append((args, changed, keys))
    assert wrong == []
    assert compared > 150
    plain.close()


def _bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else str(value).encode()


def test_the_rule_covers_every_command_of_the_server(redis_url: str) -> None:
    plain = redis_py.Redis.from_url(redis_url)
    names = {name.decode().upper() for name in plain.execute_command("COMMAND LIST")}
    unknown = {name for name in names if name.partition("|")[0] not in KEYLESS | REFUSED | ODD and name not in RULES}
    assert unknown == set()
    plain.close()


@pytest.fixture
def pair(redis_server: PrivateValkey, redis_url: str) -> Iterator[tuple[Redis, Redis]]:
    with_prefix = Redis(url=Secret(redis_server.url), prefix=PREFIX)
    without = Redis(url=Secret(redis_url))
    yield with_prefix, without
    with_prefix.stop()
    without.stop()


def _outcome(client: Any, step: Step) -> Any:
    name, args, options = step
    try:
        found = getattr(client, name)(*args, **options)
    except Exception as error:  # noqa: BLE001  errors are answers here
        return type(error), str(error)
    return sorted(found, key=repr) if isinstance(found, set) else found


def test_answers_are_the_same_as_without_a_prefix_and_all_keys_have_it(pair: tuple[Redis, Redis], redis_server: PrivateValkey) -> None:
    different = []
    for step in STEPS:
        if step[0] in TELLS_KEYS or (step[0] == "execute_command" and step[1][0] == "NOSUCH"):
            continue
        got, wanted = _outcome(pair[0], step), _outcome(pair[1], step)
        if got != wanted:
            different.append((step, got, wanted))
    assert different == []
    plain = redis_py.Redis.from_url(redis_server.url)
    keys = plain.keys()
    assert len(keys) > 20
    assert [key for key in keys if not key.startswith(PREFIX.encode())] == []
    plain.close()


def test_pipelines_watches_scripts_and_scans_use_the_prefix(pair: tuple[Redis, Redis], redis_server: PrivateValkey) -> None:
    redis = pair[0]
    plain = redis_py.Redis.from_url(redis_server.url)
    plain.set("shop:k", "of somebody else")  # what the prefix would match were it a pattern
    with redis.pipeline() as pipeline:
        pipeline.watch("k")
        assert pipeline.get("k") is None
        pipeline.multi()
        assert pipeline.set("k", 1).rpush("l", 1).execute() == [True, 1]
    assert redis.pipeline().blpop(["l"], 1).get("k").execute() == [(b"l", b"1"), b"1"]
    with redis.client() as one:
        assert one.get("k") == b"1"
    assert redis.register_script("return redis.call('GET', KEYS[1])")(keys=["k"]) == b"1"
    assert list(redis.scan_iter()) == list(redis.scan_iter("k*")) == redis.keys() == [b"k"]
    assert plain.get(PREFIX + "k") == b"1"
    plain.close()


def test_commands_that_reach_everybodys_keys_are_refused(pair: tuple[Redis, Redis]) -> None:
    for ask in (pair[0].flushdb, pair[0].flushall, pair[0].randomkey):
        with pytest.raises(RedisError, match="keys of other applications"):
            ask()
    with pytest.raises(RedisError, match="NEWCOMMAND is not known by its keys"):
        pair[0].execute_command("NEWCOMMAND", "k")


@pytest.mark.parametrize("key", [None, True, [], object()], ids=lambda key: type(key).__name__)
def test_what_is_no_key_is_refused_with_a_prefix_too(pair: tuple[Redis, Redis], key: Any) -> None:
    for client in pair:
        for ask in (client.get, client.exists, client.pipeline().get):
            with pytest.raises(DataError):
                asked = ask(key)
                if isinstance(asked, Pipeline):
                    asked.execute()


def test_replies_that_name_keys_are_known_commands() -> None:
    assert set(REPLIES) <= set(RULES) | ODD
