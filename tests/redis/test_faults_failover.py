"""Failover under Sentinel: a master, a replica and a Sentinel as real processes; and what READONLY does without one."""

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import gevent
import pytest
from private_servers import PrivateValkey

from nucleon.embedded.account import valkey_program
from nucleon.errors import SetupError, Unavailable
from nucleon.redis import Redis, Settings
from nucleon.secret import Secret
from nucleon.testing import TcpProxy
from nucleon.testing.waiting import eventually


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Watch:
    """A Sentinel that watches one master and decides alone."""

    def __init__(self, master_port: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nucleon-sentinel-"))
        self.port = free_port()
        file = self.folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor shop 127.0.0.1 {master_port} 1\n"
            "sentinel down-after-milliseconds shop 300\nsentinel failover-timeout shop 3000\n"
        )
        command = [str(valkey_program()), str(file), "--sentinel"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


@pytest.fixture
def servers() -> Iterator[tuple[PrivateValkey, PrivateValkey]]:
    """A master and its replica, in step."""
    ports = free_port(), free_port()
    master = PrivateValkey(port=str(ports[0]))
    replica = PrivateValkey(port=str(ports[1]), replicaof=f"127.0.0.1 {ports[0]}")
    for server in (master, replica):
        server.options["repl-diskless-sync-delay"] = "0"
        server.start()
    asked = Redis(url=Secret(replica.url))
    eventually(lambda: asked.info("replication")["master_link_status"] == "up")
    asked.stop()
    yield master, replica
    for server in (master, replica):
        server.close()


@pytest.fixture
def sentinel(servers: tuple[PrivateValkey, PrivateValkey]) -> Iterator[Watch]:
    watch = Watch(int(servers[0].options["port"]))
    asked = Redis(url=Secret(f"redis://127.0.0.1:{watch.port}"))
    eventually(lambda: _replicas(asked) == 1)
    asked.stop()
    yield watch
    watch.close()


def _replicas(sentinel: Redis) -> int:
    try:
        return len(sentinel.execute_command("SENTINEL REPLICAS", "shop"))
    except Unavailable:
        return 0


def test_the_first_write_after_a_failover_succeeds_within_seconds(servers: tuple[PrivateValkey, PrivateValkey], sentinel: Watch) -> None:
    places = (f"127.0.0.1:{free_port()}", f"127.0.0.1:{sentinel.port}")  # the first Sentinel is away
    redis = Redis(sentinels=places, sentinel_service="shop", socket_seconds=1, wait_seconds=0.5)
    assert redis.incr("n") == 1
    redis.wait(1, 1000)
    redis.rpush("l", *range(50))
    redis.blpop(["l"], 1)  # a connection of its own
    servers[0].pause()  # as a machine that is cut off: nothing is closed
    began = monotonic()
    errors = 0
    while True:
        try:
            value = redis.incr("n")
            break
        except Unavailable:
            errors += 1
        gevent.sleep(0.02)
        assert monotonic() - began < 15
    assert value >= 1
    assert errors >= 1
    assert eventually(lambda: _popped(redis)) == b"l"
    with redis.pipeline() as pipeline:
        pipeline.watch("n")
        pipeline.multi()
        pipeline.incr("n")
        assert pipeline.execute() == [value + 1]
    servers[0].resume()  # the old master comes back and becomes a replica: nobody writes to it
    assert redis.incr("n") == value + 2
    redis.stop()


def _popped(redis: Redis) -> bytes | None:
    try:
        found = redis.blpop(["l"], 1)
    except Unavailable:
        return None
    return found[0] if found else None  # type: ignore[index]


def test_a_master_that_became_a_replica_is_left_for_what_its_name_stands_for_now(servers: tuple[PrivateValkey, PrivateValkey]) -> None:
    master, replica = servers
    with TcpProxy(master.address) as name:  # stands for a host name that moves
        redis = Redis(url=Secret(f"redis://127.0.0.1:{name.port}"))
        redis.set("k", "before")
        admin = {server: Redis(url=Secret(server.url)) for server in servers}
        eventually(lambda: admin[replica].get("k") == b"before")
        admin[replica].replicaof("NO", "ONE")
        admin[master].replicaof("127.0.0.1", replica.options["port"])
        name.upstream = replica.address
        with pytest.raises(Unavailable):
            redis.set("k", "refused")
        assert redis.set("k", "after")
        assert admin[replica].get("k") == b"after"
        for one in (redis, *admin.values()):
            one.stop()


def test_nobody_knows_the_master(servers: tuple[PrivateValkey, PrivateValkey], sentinel: Watch) -> None:
    redis = Redis(sentinels=(f"127.0.0.1:{sentinel.port}",), sentinel_service="nobody", wait_seconds=0.1)
    with pytest.raises(Unavailable):
        redis.ping()
    sentinel.process.send_signal(signal.SIGSTOP)
    stuck = Redis(sentinels=(f"127.0.0.1:{sentinel.port}",), sentinel_service="shop", wait_seconds=0.1, connect_seconds=0.2)
    began = monotonic()
    with pytest.raises(Unavailable):
        stuck.ping()
    assert monotonic() - began < 2
    sentinel.process.send_signal(signal.SIGCONT)
    redis.stop()
    stuck.stop()


def test_sentinels_are_written_as_host_and_port() -> None:
    with pytest.raises(SetupError, match="host:port"):
        Settings(sentinels=("one",))


@pytest.mark.parametrize("silent", [1, 2])
def test_sentinels_that_are_silent_do_not_use_up_the_time_of_the_next(
    servers: tuple[PrivateValkey, PrivateValkey], sentinel: Watch, silent: int
) -> None:
    with TcpProxy(("127.0.0.1", sentinel.port)) as hole:
        hole.blackhole()
        places = (*[f"127.0.0.1:{hole.port}"] * silent, f"127.0.0.1:{sentinel.port}")
        redis = Redis(sentinels=places, sentinel_service="shop", connect_seconds=1)
        assert redis.set("k", "v")
        redis.stop()
