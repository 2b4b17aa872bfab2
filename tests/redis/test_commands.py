"""The law: the same command has the same answer, and the same kind of error, as in redis-py. One script of commands over both clients.

Not compared, because the connection is shared: CLIENT ID, GETNAME, INFO and what SELECT, CLIENT SETNAME and their like leave behind.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py
from private_servers import PrivateValkey
from redis_script import SCRIPTS, Step

from nucleon.redis import Redis
from nucleon.secret import Secret

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")  # they have to work all the same

WAYS = [(2, False), (2, True), (3, False), (3, True)]


def outcome(do: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return do(*args, **options)
    except redis_py.DataError as error:
        return type(error), str(error).split(" (")[0]  # ours says in brackets which argument it is
    except Exception as error:  # noqa: BLE001  errors are answers here
        return type(error), str(error)


def bare(value: Any) -> Any:
    """What `repr` may differ in without a difference: the order of sets."""
    return sorted(value, key=repr) if isinstance(value, set) else value


@pytest.fixture(scope="module")
def two_servers() -> Iterator[tuple[PrivateValkey, PrivateValkey]]:
    servers = PrivateValkey(), PrivateValkey()
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.close()


@pytest.fixture(params=WAYS, ids=[f"RESP{protocol}{' decoded' if decoded else ''}" for protocol, decoded in WAYS])
def pair(two_servers: tuple[PrivateValkey, PrivateValkey], request: pytest.FixtureRequest) -> Iterator[tuple[Redis, Any]]:
    """Ours and theirs, each with an empty server."""
    protocol, decoded = request.param
    ours = Redis(url=Secret(two_servers[0].url), protocol=protocol, decode_responses=decoded)
    theirs = redis_py.Redis.from_url(two_servers[1].url, protocol=protocol, decode_responses=decoded)
    ours.flushall()
    theirs.flushall()
    yield ours, theirs
    ours.stop()
    theirs.close()


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_the_same_command_has_the_same_answer(pair: tuple[Redis, Any], script: list[Step]) -> None:
    ours, theirs = pair
    different = []
    for name, args, options in script:
        got = bare(outcome(getattr(ours, name), *args, **options))
        wanted = bare(outcome(getattr(theirs, name), *args, **options))
        if (got, repr(type(got))) != (wanted, repr(type(wanted))):
            different.append(f"{name}{args}{options}: {got!r} and not {wanted!r}")
    assert different == []


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
@pytest.mark.parametrize("is_transaction", [False, True], ids=["pipeline", "transaction"])
def test_the_same_pipeline_has_the_same_answers(pair: tuple[Redis, Any], script: list[Step], is_transaction: bool) -> None:
    stateful = ("client_setname", "select", "wait", "readonly")
    steps = [one for one in script if one[0] not in stateful]

    def run(client: Any) -> Any:
        pipeline = client.pipeline(transaction=is_transaction)
        for name, args, options in steps:
            outcome(getattr(pipeline, name), *args, **options)
        replies = pipeline.execute(raise_on_error=False)
        return [(type(one), str(one)) if isinstance(one, Exception) else bare(one) for one in replies]

    got, wanted = outcome(run, pair[0]), outcome(run, pair[1])
    assert got == wanted


def test_a_transaction_that_was_overtaken_says_so_in_both(pair: tuple[Redis, Any]) -> None:
    def run(client: Any) -> Any:
        client.set("k", 1)
        with client.pipeline() as pipeline:
            pipeline.watch("k")
            client.set("k", 2)
            pipeline.multi()
            pipeline.incr("k")
            return outcome(pipeline.execute)

    assert run(pair[0]) == run(pair[1])


def test_scripts_scans_and_transactions_by_function_answer_alike(pair: tuple[Redis, Any]) -> None:
    def run(client: Any) -> Any:
        client.mset({f"key:{n}": n for n in range(300)})
        script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        client.script_flush()
        with client.pipeline() as pipeline:
            script(keys=["key:1"], args=[5], client=pipeline)
            pipelined = pipeline.execute()

        def double(pipeline: Any) -> None:
            value = int(pipeline.get("key:1"))
            pipeline.multi()
            pipeline.set("key:1", value * 2)

        client.script_flush()
        return (
            sorted(client.scan_iter("key:*", count=50)), script(keys=["key:1"], args=[1]), pipelined,
            client.transaction(double, "key:1"), client.get("key:1"),
        )  # fmt: skip

    assert run(pair[0]) == run(pair[1])


def test_subscribers_and_monitors_hear_alike(pair: tuple[Redis, Any]) -> None:
    def run(client: Any) -> Any:
        heard = []
        with client.pubsub() as subscription:
            subscription.subscribe("a", b=lambda message: heard.append(message))
            subscription.psubscribe("n*")
            for _ in range(3):
                heard.append(subscription.get_message(timeout=1))
            client.publish("a", "1")
            client.publish("b", "2")
            client.publish("news", "3")
            for _ in range(3):
                heard.append(subscription.get_message(timeout=1))
        with client.monitor() as monitor:
            client.set("watched", 1)
            heard.append(monitor.next_command()["command"])
        return heard

    assert run(pair[0]) == run(pair[1])


def test_a_callback_that_the_application_sets_is_used(redis_url: str) -> None:
    redis = Redis(url=Secret(redis_url))
    redis.set("k", "v")
    assert redis.get("k") == b"v"
    redis.set_response_callback("GET", lambda reply, **_: ["mine", reply])  # type: ignore[no-untyped-call]
    assert redis.get("k") == ["mine", b"v"]
    assert redis.pipeline().get("k").execute() == [["mine", b"v"]]
    del redis.response_callbacks["GET"]
    assert redis.get("k") == b"v"
    redis.stop()


def test_a_callback_that_the_application_sets_outlives_the_start_of_the_worker(redis_url: str) -> None:
    redis = Redis(url=Secret(redis_url))
    redis.set_response_callback("GET", lambda reply: f"mine: {reply}")  # type: ignore[no-untyped-call]
    redis.response_callbacks.pop("SET")
    redis.response_callbacks.update({"echo": lambda reply: "echoed"})
    for _ in range(2):
        assert redis.set("k", "v") == b"OK"
        assert redis.get("k") == "mine: b'v'"
        assert redis.echo("e") == "echoed"  # type: ignore[no-untyped-call]
        assert redis.incr("n") > 0
        redis.start()
    del redis.response_callbacks["GET"]
    assert redis.get("k") == b"v"
    redis.stop()


def test_a_reply_that_is_no_text_is_an_error_of_its_reader_only(redis_url: str) -> None:
    redis = Redis(url=Secret(redis_url), decode_responses=True)
    redis.set("binary", b"\xff")
    redis.set("text", "ä")
    with pytest.raises(UnicodeDecodeError):
        redis.get("binary")
    assert redis.get("text") == "ä"
    with pytest.raises(UnicodeDecodeError):
        redis.pipeline().get("text").get("binary").execute()
    assert redis.execute_command("GET", "binary", NEVER_DECODE=True) == b"\xff"
    assert redis.pipeline(transaction=False).get("text").execute_command("GET", "binary", NEVER_DECODE=True).execute() == ["ä", b"\xff"]
    assert redis._multiplexer.opened == 1
    redis.stop()
