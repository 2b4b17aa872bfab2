"""The law: the same command has the same answer, and the same kind of error, as in redis-py. One script of commands over both clients.

Not compared, because the connection is shared: CLIENT ID, GETNAME, INFO and what SELECT, CLIENT SETNAME and their like leave behind.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_py
from private_servers import PrivateValkey

from nucleon.redis import Redis
from nucleon.secret import Secret

Step = tuple[str, tuple[Any, ...], dict[str, Any]]


def step(name: str, *args: Any, **options: Any) -> Step:
    return name, args, options


STRINGS = [
    step("set", "s", "value"), step("get", "s"), step("get", "none"), step("set", "s", 1, nx=True),
    step("set", "s", 2, xx=True, get=True), step("set", "n", 5, ex=100), step("ttl", "n"), step("pttl", "none"), step("incr", "n"),
    step("incrby", "n", 10), step("decr", "n"), step("incrbyfloat", "n", 0.5), step("incr", "n"), step("append", "s", "more"),
    step("strlen", "s"), step("getrange", "s", 0, 2), step("setrange", "s", 1, "XX"),
    step("mset", {"a": 1, "b": "two", "c": b"\x00\xff"[:1]}), step("mget", "a", "b", "none"), step("msetnx", {"a": 1, "z": 2}),
    step("getset", "a", "new"), step("getdel", "a"), step("getex", "b", ex=10), step("psetex", "p", 5000, "v"),
    step("setex", "x", 50, "v"), step("setnx", "x", "w"), step("setbit", "bits", 7, 1), step("getbit", "bits", 7),
    step("bitcount", "bits"), step("bitop", "OR", "dest", "bits", "s"), step("bitpos", "bits", 1), step("exists", "s", "none", "b"),
    step("delete", "s", "none"), step("unlink", "b"), step("type", "n"), step("expire", "n", 100), step("expiretime", "none"),
    step("persist", "n"), step("touch", "n"), step("rename", "n", "m"), step("rename", "none", "m2"), step("copy", "m", "m3"),
    step("dump", "m3"), step("object", "ENCODING", "m3"), step("keys", "m3*"), step("dbsize"), step("echo", "e"), step("ping"),
    step("lcs", "m", "m3"), step("get", ""), step("set", "unicode", "ä€😀"), step("get", "unicode"), step("set", "float", 1.5),
    step("get", "float"), step("get", b"float"), step("set", "bytes", bytearray(b"array")), step("get", memoryview(b"bytes")),
    step("set", "bad", True), step("set", "bad", None), step("get"),
]  # fmt: skip
HASHES = [
    step("hset", "h", "a", 1), step("hset", "h", mapping={"b": 2, "c": 3.5}), step("hgetall", "h"), step("hgetall", "none"),
    step("hget", "h", "a"), step("hget", "h", "none"), step("hmget", "h", "a", "none", "b"), step("hkeys", "h"), step("hvals", "h"),
    step("hlen", "h"), step("hexists", "h", "a"), step("hincrby", "h", "a", 4), step("hincrbyfloat", "h", "c", 0.25),
    step("hdel", "h", "a", "x"), step("hsetnx", "h", "b", 9), step("hstrlen", "h", "b"), step("hscan", "h"),
    step("hrandfield", "one", 2), step("hset", "one", "f", "v"), step("hrandfield", "one", 1, withvalues=True), step("hset", "h"),
    step("hget", "h"),
]  # fmt: skip
LISTS = [
    step("rpush", "l", 1, 2, 3), step("lpush", "l", 0), step("lrange", "l", 0, -1), step("llen", "l"), step("lindex", "l", 1),
    step("linsert", "l", "before", 2, "x"), step("lset", "l", 0, "y"), step("lset", "l", 99, "y"), step("lrem", "l", 1, "x"),
    step("lpop", "l"), step("lpop", "l", 2), step("rpop", "none"), step("rpoplpush", "l", "l2"),
    step("lmove", "l2", "l", "LEFT", "RIGHT"), step("lpos", "l", 3), step("ltrim", "l", 0, 0), step("blpop", ["none", "l"], 1),
    step("blpop", ["none"], 0.01), step("rpush", "l", "a", "b"), step("brpop", "l", 1),
    step("blmove", "l", "l3", 1, "LEFT", "RIGHT"), step("brpoplpush", "l3", "l4", 1), step("lmpop", 1, "l4", direction="LEFT"),
    step("blmpop", 0.01, 1, "l4", direction="LEFT"), step("lpushx", "none", 1), step("rpush", "numbers", 3, 1, 2),
    step("sort", "numbers", desc=True), step("sort", "numbers", store="sorted"), step("lrange", "sorted", 0, -1),
    step("incr", "numbers"),
]  # fmt: skip
SETS = [
    step("sadd", "a", 1, 2, 3), step("sadd", "b", 3), step("smembers", "a"), step("sismember", "a", 1),
    step("smismember", "a", [1, 9]), step("scard", "a"), step("sdiff", "a", "b"), step("sinter", "a", "b"),
    step("sunion", "a", "b"), step("sinterstore", "c", "a", "b"), step("sintercard", 2, ["a", "b"]), step("smove", "a", "b", 1),
    step("spop", "c"), step("spop", "none", 2), step("srandmember", "none"), step("srandmember", "b", 0), step("srem", "a", 2, 9),
    step("sscan", "a"), step("sadd", "a"),
]  # fmt: skip
SORTED = [
    step("zadd", "z", {"a": 1, "b": 2.5, "c": 3}), step("zadd", "z", {"a": 5}, nx=True), step("zadd", "z", {"a": 2}, ch=True),
    step("zadd", "z", {"a": 1}, incr=True), step("zscore", "z", "b"), step("zscore", "z", "none"),
    step("zmscore", "z", ["a", "none"]), step("zrange", "z", 0, -1), step("zrange", "z", 0, -1, withscores=True),
    step("zrange", "z", 1, 3, byscore=True, withscores=True), step("zrevrange", "z", 0, -1, withscores=True),
    step("zrangebyscore", "z", 1, 3, withscores=True, score_cast_func=int), step("zrank", "z", "b"),
    step("zrank", "z", "b", withscore=True), step("zrevrank", "z", "none"), step("zincrby", "z", 1.5, "c"), step("zcard", "z"),
    step("zcount", "z", 1, 3), step("zlexcount", "z", "-", "+"), step("zpopmin", "z"), step("zpopmax", "z", 1),
    step("bzpopmin", "z", 1), step("bzpopmax", "z", 0.01), step("zadd", "z", {"x": 1, "y": 2}),
    step("zrangestore", "z2", "z", 0, -1), step("zunion", ["z", "z2"], withscores=True),
    step("zinter", ["z", "z2"], withscores=True), step("zdiff", ["z", "z2"]), step("zscan", "z"),
    step("zinterstore", "z3", ["z", "z2"]), step("zrandmember", "one"), step("zmpop", 1, ["z"], min=True),
    step("bzmpop", 0.01, 1, ["none"], min=True), step("zrem", "z", "y"), step("zremrangebyrank", "z2", 0, 0), step("zadd", "z", {}),
    step("zrangebylex", "z2", "-", "+"),
]  # fmt: skip
STREAMS = [
    step("xadd", "st", {"a": 1}, id="1-1"), step("xadd", "st", {"a": 2}, id="1-2"), step("xlen", "st"), step("xrange", "st"),
    step("xrevrange", "st", count=1), step("xread", {"st": 0}), step("xread", {"st": "1-2"}),
    step("xread", {"st": "1-2"}, block=10), step("xgroup_create", "st", "g", id=0), step("xgroup_create", "st", "g", id=0),
    step("xreadgroup", "g", "c", {"st": ">"}, count=1), step("xreadgroup", "g", "c", {"st": ">"}, block=10),
    step("xpending", "st", "g"), step("xack", "st", "g", "1-1"), step("xautoclaim", "st", "g", "d", 0),
    step("xclaim", "st", "g", "d", 0, ["1-2"]), step("xdel", "st", "1-1"), step("xinfo_stream", "st"), step("xinfo_groups", "st"),
    step("xtrim", "st", maxlen=1), step("xgroup_destroy", "st", "g"), step("xadd", "st", {}),
]  # fmt: skip
OTHERS = [
    step("geoadd", "geo", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")),
    step("geodist", "geo", "Palermo", "Catania", unit="km"), step("geopos", "geo", "Palermo", "none"),
    step("geohash", "geo", "Palermo"),
    step("geosearch", "geo", longitude=15, latitude=37, radius=200, unit="km", withdist=True, withcoord=True),
    step("pfadd", "hll", 1, 2, 3), step("pfcount", "hll"), step("pfmerge", "hll2", "hll"),
    step("eval", "return {1, KEYS[1], ARGV[1]}", 1, "k", "v"), step("eval", "return nil", 0),
    step("eval", "return redis.error_reply('MINE is wrong')", 0), step("eval", "bad lua", 0), step("evalsha", "0" * 40, 0),
    step("script_load", "return 1"), step("script_exists", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0" * 40),
    step("script_flush"), step("function_load", "#!lua name=lib\nredis.register_function('f', function(k, a) return a[1] end)"),
    step("fcall", "f", 0, "x"), step("function_list"), step("function_delete", "lib"), step("publish", "news", "m"),
    step("pubsub_channels"), step("pubsub_numsub", "news"), step("config_get", "maxmemory"),
    step("config_set", "maxmemory-samples", 5), step("config_set", "none", 5), step("command_count"),
    step("command_getkeys", "SET", "k", "v"), step("acl_whoami"),
    step("acl_setuser", "u", enabled=True, commands=["+get"], keys=["k"]), step("acl_getuser", "u"), step("acl_deluser", "u"),
    step("client_setname", "x"), step("client_unblock", 999999), step("execute_command", "SET", "raw", "x"),
    step("execute_command", "get", "raw"), step("execute_command", b"GET", "raw"),
    step("execute_command", "OBJECT", "ENCODING", "raw"), step("execute_command", "CONFIG GET", "maxmemory"),
    step("execute_command", "NOSUCH", 1), step("execute_command", "GET", "raw", NEVER_DECODE=True),
    step("execute_command", "HGETALL", "raw", EMPTY_RESPONSE="empty"), step("select", 0), step("wait", 0, 10),
    step("slowlog_reset"), step("scan", match="ra*", count=1000), step("move", "raw", 1), step("flushdb"), step("swapdb", 4, 5),
    step("readonly"), step("object", "help"),
]  # fmt: skip
SCRIPTS = {"strings": STRINGS, "hashes": HASHES, "lists": LISTS, "sets": SETS, "sorted sets": SORTED, "streams": STREAMS, "others": OTHERS}

WAYS = [(2, False), (2, True), (3, False), (3, True)]


def outcome(do: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return do(*args, **options)
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
