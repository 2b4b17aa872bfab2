"""A cluster of three nodes as real processes: commands find their node, also when slots move and nodes die."""

from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from private_servers import PrivateValkey
from redis.exceptions import RedisError

from nucleon import green
from nucleon.errors import DeadlineExceeded, SetupError, Unavailable
from nucleon.redis import Redis, RedisCluster
from nucleon.secret import Secret
from nucleon.testing.live import free_port
from nucleon.testing.waiting import eventually

ENDS = (0, 5461, 10923, 16384)


class Node:
    """One server of the cluster, and a client for what an operator says to it."""

    def __init__(self) -> None:
        self.port, self.bus = free_port(), free_port()
        options = {"cluster-enabled": "yes", "cluster-node-timeout": "1000", "cluster-require-full-coverage": "no"}
        self.server = PrivateValkey(port=str(self.port), **options, **{"cluster-port": str(self.bus)})
        self.server.start()
        self.admin = Redis(url=Secret(self.server.url), decode_responses=True)
        self.id = self.say("CLUSTER", "MYID")

    @property
    def url(self) -> Secret[str]:
        return Secret(f"redis://127.0.0.1:{self.port}")

    def say(self, *words: Any) -> Any:
        return self.admin.execute_command(*words)

    def meet(self, other: "Node") -> None:
        self.say("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus)

    def knows(self, nodes: int) -> bool:
        lines = self.admin.execute_command("CLUSTER INFO")
        told = lines if isinstance(lines, dict) else dict(line.split(":", 1) for line in lines.split())
        return told["cluster_state"] == "ok" and told["cluster_known_nodes"] == str(nodes) and told["cluster_slots_assigned"] == "16384"

    def close(self) -> None:
        self.admin.stop()
        self.server.close()


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    made = [Node() for _ in range(3)]
    for place, node in enumerate(made):
        node.say("CLUSTER", "ADDSLOTSRANGE", ENDS[place], ENDS[place + 1] - 1)
        node.say("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
    for node in made[1:]:
        made[0].meet(node)
    eventually(lambda: all(node.knows(3) for node in made), within_seconds=20)
    yield made
    for node in made:
        node.close()


@pytest.fixture
def cluster(nodes: list[Node]) -> Iterator[RedisCluster]:
    for node in nodes:
        node.say("FLUSHALL")
    client = RedisCluster(url=nodes[0].url, max_connections=3, wait_seconds=0.5, socket_seconds=1)
    yield client
    client.stop()


def key_of(cluster: RedisCluster, node: Node) -> tuple[str, int]:
    """A key that this node has, and its slot."""
    for number in range(1000):
        slot = cluster.keyslot(f"k{number}")
        if cluster.get_node_from_key(f"k{number}").port == node.port:
            return f"k{number}", slot
    raise AssertionError("no key")


def test_commands_of_many_greenlets_find_their_nodes_over_few_connections(cluster: RedisCluster) -> None:
    done = [green.spawn(cluster.incr, f"n{number % 20}") for number in range(200)]
    assert sorted(one.get() for one in done) == sorted(list(range(1, 11)) * 20)
    assert cluster.mget("{a}1", "{a}2") == [None, None]
    assert cluster.delete(*(f"n{number}" for number in range(20))) == 20
    cluster.health()
    assert "3 nodes; 0 connections in use" in repr(cluster)
    assert sum(pool.opened() for pool in cluster._known().pools()) <= 9


def test_slots_that_move_are_followed(cluster: RedisCluster, nodes: list[Node]) -> None:
    key, slot = key_of(cluster, nodes[0])
    source, target = nodes[0], nodes[1]
    target.say("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.say("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    assert cluster.incr(key) == 1  # ASK: new keys of the slot are in the target already
    for node in (target, source):
        node.say("CLUSTER", "SETSLOT", slot, "NODE", target.id)
    assert cluster.incr(key) == 2  # MOVED
    assert target.admin.get(key) == "2"
    assert cluster.get(key) == b"2"


def test_a_node_that_is_killed_takes_only_its_own_keys_along(cluster: RedisCluster, nodes: list[Node]) -> None:
    keys = [key_of(cluster, node)[0] for node in nodes]
    for key in keys:
        cluster.set(key, "before")
    nodes[2].server.kill()
    for key in keys[:2]:
        assert cluster.set(key, "after")
    began = monotonic()
    with pytest.raises(Unavailable):
        cluster.set(keys[2], "after")
    with pytest.raises(Unavailable):
        cluster.get(keys[2])
    assert monotonic() - began < 6
    nodes[2].server.start()
    assert eventually(lambda: written(cluster, keys[2]), within_seconds=20)
    assert eventually(lambda: all(node.knows(3) for node in nodes), within_seconds=20)


def written(cluster: RedisCluster, key: str) -> bool:
    try:
        return bool(cluster.set(key, "again"))
    except Unavailable:
        return False


def test_a_node_that_hangs_ends_waits_at_the_deadline_and_nothing_is_sent_twice(cluster: RedisCluster, nodes: list[Node]) -> None:
    key, _ = key_of(cluster, nodes[1])
    cluster.set(key, 1)
    nodes[1].server.pause()
    try:
        began = monotonic()
        with pytest.raises(DeadlineExceeded), green.deadline(0.2):
            cluster.incr(key)
        assert monotonic() - began < 1
        assert "0 connections in use" in repr(cluster)
        with pytest.raises(Unavailable):  # after socket_seconds
            cluster.incr(key)
        assert monotonic() - began < 5
    finally:
        nodes[1].server.resume()
    assert eventually(lambda: all(node.knows(3) for node in nodes), within_seconds=20)
    assert eventually(lambda: int(read(cluster, key) or 0)) in (1, 2, 3)  # each ran once or not at all
    assert eventually(lambda: written(cluster, key))


def read(cluster: RedisCluster, key: str) -> Any:
    try:
        return cluster.get(key)
    except Unavailable:
        return None


def test_killed_greenlets_leave_no_reply_to_others(cluster: RedisCluster) -> None:
    cluster.set("own", "mine")
    for _ in range(5):
        victim = green.spawn(cluster.blpop, ["{own}slow"], 5)
        green.sleep(0.02)
        victim.kill()
        assert cluster.get("own") == b"mine"
    assert "0 connections in use" in repr(cluster)


def test_a_full_pool_is_unavailable_after_the_wait(cluster: RedisCluster) -> None:
    cluster.ping()
    holders = [green.spawn(cluster.blpop, ["never"], 2) for _ in range(3)]
    eventually(lambda: "3 connections in use" in repr(cluster))
    with pytest.raises(Unavailable):
        cluster.get("never")
    assert [holder.get() for holder in holders] == [None] * 3  # nobody took their connections away


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_prefix_is_before_every_key_and_after_none(cluster: RedisCluster, nodes: list[Node], protocol: int) -> None:
    shop = RedisCluster(url=nodes[0].url, prefix="shop:", protocol=protocol)
    names = [f"n{number}" for number in range(30)]
    for client in (shop, cluster):
        assert [client.set(name, name) for name in names] == [True] * 30
        assert client.mget_nonatomic(names) == [name.encode() for name in names]
        assert client.mset_nonatomic({"a": 1, "b": 2}) == [True, True]
        client.rpush("{q}list", "x", "y")
        assert client.blpop(["{q}none", "{q}list"], 1) in ((b"{q}list", b"x"), [b"{q}list", b"x"])
        client.xadd("stream", {"f": "v"})
        found = client.xread({"stream": 0})
        assert (next(iter(found)) if isinstance(found, dict) else found[0][0]) == b"stream"
        assert client.eval("return redis.call('GET', KEYS[1])", 1, "n7") == b"n7"
    assert sorted(cluster.get(f"shop:{name}") for name in names) == sorted(name.encode() for name in names)
    ours = {name.encode() for name in (*names, "a", "b", "{q}list", "stream")}
    assert set(shop.scan_iter("*")) == set(shop.keys("*", target_nodes="primaries")) == ours
    assert shop.exists(*names) == shop.touch(*names) == 30
    assert shop.delete(*names) == 30
    assert cluster.exists(*names) == 30
    with pytest.raises(RedisError, match="keys of other applications"):
        shop.flushall()
    shop.stop()


def test_commands_of_many_slots_are_bounded_like_the_others(cluster: RedisCluster, nodes: list[Node]) -> None:
    keys = [key_of(cluster, node)[0] for node in nodes]
    nodes[1].server.pause()
    try:
        began = monotonic()
        with pytest.raises(DeadlineExceeded), green.deadline(0.2):
            cluster.delete(*keys)
        with pytest.raises(Unavailable):
            cluster.unlink(*keys)
        assert monotonic() - began < 5
    finally:
        nodes[1].server.resume()
    assert eventually(lambda: all(node.knows(3) for node in nodes), within_seconds=20)
    assert eventually(lambda: written(cluster, keys[1]))


def test_what_is_no_cluster_is_said(redis_server: PrivateValkey, cluster: RedisCluster) -> None:
    copies = {"local_bytes": 1, "protocol": 3}
    for wrong in ({"sentinels": ("h:1",)}, copies, {"url": Secret(redis_server.url)}, {"url": Secret("redis://h/2")}, {"colour": "red"}):
        with pytest.raises(SetupError):
            RedisCluster(**wrong)
    away = RedisCluster(url=Secret(f"redis://127.0.0.1:{free_port()}"))
    with pytest.raises(Unavailable):
        away.get("x")
    assert "1 calls, 1 failed" in repr(away)
    with pytest.raises(AttributeError):
        cluster.pipeline()
