"""What goes wrong with a server, and what the callers get: every row of the table in docs/redis.md."""

import os
import signal
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import gevent
import pytest
from private_servers import PrivateValkey
from redis.exceptions import ResponseError

from nucleon import green
from nucleon.errors import DeadlineExceeded, Unavailable
from nucleon.redis import Redis
from nucleon.redis.border import ReplyTooLarge
from nucleon.secret import Secret
from nucleon.testing import TcpProxy
from nucleon.testing.peers import Conversation, ScriptedPeer
from nucleon.testing.waiting import eventually


@pytest.fixture
def proxy(redis_server: PrivateValkey) -> Iterator[TcpProxy]:
    with TcpProxy(redis_server.address) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: TcpProxy) -> Iterator[Redis]:
    """A client behind the proxy, with little patience."""
    redis = Redis(url=Secret(f"redis://127.0.0.1:{proxy.port}"), socket_seconds=0.4, wait_seconds=0.5, max_connections=2)
    yield redis
    redis.stop()


def greet(conversation: Conversation) -> None:
    """Say what a server says to a connection that is new."""
    conversation.expect(b"*1\r\n$4\r\nPING\r\n")
    conversation.send(b"+PONG\r\n")


def failed(done: list[Any]) -> list[Any]:
    gevent.joinall(done)
    return [one.exception for one in done if not one.successful()]


def test_clients_killed_while_idle_cost_nobody_an_error(redis_server: PrivateValkey) -> None:
    redis, other = Redis(url=Secret(redis_server.url)), Redis(url=Secret(redis_server.url))
    redis.rpush("l", *range(20))
    redis.blpop(["l"], 1)
    for _ in range(3):
        other.client_kill_filter(_type="normal", skipme=True)  # type: ignore[no-untyped-call]
        assert failed([green.spawn(redis.incr, "n") for _ in range(8)]) == []
        assert failed([green.spawn(redis.blpop, ["l"], 1) for _ in range(4)]) == []
    assert redis.get("n") == b"24"
    redis.stop()
    other.stop()


def test_a_restart_while_idle_costs_nobody_an_error(redis_server: PrivateValkey) -> None:
    redis = Redis(url=Secret(redis_server.url))
    redis.set("k", "v")
    redis_server.restart()
    assert failed([green.spawn(redis.append, "k", "w") for _ in range(8)]) == []
    assert redis.get("k") == b"vwwwwwwww"
    redis.stop()


def test_a_crash_under_load_is_bridged_by_reads_and_told_to_writes_that_may_have_run(redis_server: PrivateValkey) -> None:
    redis = Redis(url=Secret(redis_server.url), wait_seconds=5)
    redis.set("k", "v")
    reads, writes, unsure = [], [], []
    is_over = False

    def read() -> None:
        while not is_over:
            reads.append(redis.get("k"))
            gevent.sleep(0.001)

    def write() -> None:
        while not is_over:
            try:
                writes.append(redis.incr("n"))
            except Unavailable as error:
                unsure.append(str(error))
            gevent.sleep(0.001)

    busy = [gevent.spawn(read) for _ in range(8)] + [gevent.spawn(write) for _ in range(8)]
    gevent.sleep(0.1)
    redis_server.pause()  # so that commands are on their way
    gevent.sleep(0.05)
    os.kill(redis_server.pid, signal.SIGKILL)
    redis_server.kill()
    redis_server.start()
    before = len(writes)
    eventually(lambda: len(writes) > before + 50)
    is_over = True
    gevent.joinall(busy, raise_error=True)
    assert set(reads) == {b"v"}
    assert 1 <= len(unsure) <= 8  # at most one for each writer: the next waited for the server
    assert all("may have been carried out" in message for message in unsure)
    assert len(set(writes)) >= len(writes) - 8  # a crash may lose what was not yet on disk; nothing ran twice after it
    redis.stop()


def test_a_black_hole_costs_the_patience_once(through: Redis, proxy: TcpProxy) -> None:
    through.set("k", "v")
    proxy.blackhole()
    began = monotonic()
    done = [green.spawn(through.get, "k") for _ in range(8)]
    assert len(failed(done)) == 8
    assert monotonic() - began < 0.4 * 1.5
    with pytest.raises(DeadlineExceeded), green.deadline(0.1):
        through.incr("n")
    eventually(lambda: not through._multiplexer.links)  # the silent connection is given up
    proxy.pass_through()
    assert eventually(lambda: _answer(lambda: through.get("k"))) == b"v"


def _answer(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Unavailable:
        return None


def test_reads_younger_than_the_silence_are_asked_again_within_their_own_patience(through: Redis, proxy: TcpProxy) -> None:
    through.set("k", "v")
    proxy.blackhole()
    old = green.spawn(through.get, "k")
    gevent.sleep(0.25)
    began = monotonic()
    young = green.spawn(through.get, "k")
    gevent.sleep(0.1)
    proxy.reset()
    proxy.pass_through()
    assert old.get() == young.get() == b"v"
    assert monotonic() - began < 0.4


def test_deadlines_between_command_and_reply_never_hand_on_an_old_reply(through: Redis, proxy: TcpProxy) -> None:
    through.set("k", 0)
    proxy.delay(0.05, "to_client")
    for number in range(5):
        with pytest.raises(DeadlineExceeded), green.deadline(0.03):
            through.echo(f"late {number}")  # type: ignore[no-untyped-call]
        assert through.echo(f"own {number}") == f"own {number}".encode()  # type: ignore[no-untyped-call]
    assert through._multiplexer.opened == 1


def test_a_reply_cut_in_the_middle_is_asked_for_again_and_never_short(through: Redis, proxy: TcpProxy) -> None:
    through.set("long", "x" * 50_000)
    proxy.cut(5_000, "to_client")
    with pytest.raises(Unavailable, match="was lost before it answered"):
        through.get("long")
    assert proxy.accepted == 3  # asked for three times, on three connections
    proxy.pass_through()
    assert through.get("long") == b"x" * 50_000


def test_a_read_whose_reply_was_cut_off_is_asked_for_again() -> None:
    replies = iter([b"$4\r\nab", b"$4\r\nabcd\r\n"])

    def script(conversation: Conversation) -> None:
        greet(conversation)
        conversation.receive_until(b"k\r\n")
        conversation.send(next(replies))

    with ScriptedPeer(script) as peer:
        redis = Redis(url=Secret(f"redis://127.0.0.1:{peer.port}"))
        assert redis.get("k") == b"abcd"
        assert peer.accepted == 2
        redis.stop()


def test_half_a_reply_and_a_close_is_an_error_for_a_write() -> None:
    def script(conversation: Conversation) -> None:
        greet(conversation)
        conversation.receive_until(b"n\r\n")
        conversation.send(b":1")

    with ScriptedPeer(script) as peer:
        redis = Redis(url=Secret(f"redis://127.0.0.1:{peer.port}"))
        with pytest.raises(Unavailable, match="may have been carried out"):
            redis.incr("n")
        assert peer.accepted == 1
        redis.stop()


def test_own_connections_are_given_in_order_and_waited_for_in_bounds(redis_url: str) -> None:
    redis = Redis(url=Secret(redis_url), max_connections=2, wait_seconds=0.5)
    began = monotonic()
    ended: list[float] = []

    def pop() -> None:
        try:
            redis.blpop(["never"], 0.2)
        finally:
            ended.append(monotonic() - began)

    refused = failed([gevent.spawn(pop) for _ in range(20)])
    assert 12 <= len(refused) <= 16  # two connections serve two greenlets each 0.2 s
    assert all(isinstance(error, Unavailable) for error in refused)
    assert max(ended) < 1.0
    redis.stop()


def test_two_hundred_greenlets_at_once_are_served(redis_url: str) -> None:
    redis = Redis(url=Secret(redis_url))
    redis.rpush("l", *range(200))
    done = [green.spawn(redis.blpop, ["l"], 1) for _ in range(200)]
    assert failed(done) == []
    assert sorted(int(one.get()[1]) for one in done) == list(range(200))
    assert redis._pool.opened() <= 20
    redis.stop()


def test_a_stopped_process_costs_the_patience_and_is_used_again(redis_server: PrivateValkey) -> None:
    redis = Redis(url=Secret(redis_server.url), socket_seconds=0.2)
    redis.set("k", "v")
    redis_server.pause()
    began = monotonic()
    with pytest.raises(Unavailable, match="did not answer in time"):
        redis.get("k")
    with pytest.raises(Unavailable, match="did not answer in time"):
        redis.set("large", "x" * 100_000)  # over a connection of its own
    assert monotonic() - began < 1
    redis_server.resume()
    assert redis.get("k") == b"v"
    redis.stop()


def test_a_reply_of_200_megabytes_is_refused_and_only_its_caller_suffers(redis_server: PrivateValkey) -> None:
    redis = Redis(url=Secret(redis_server.url), reply_bytes=20_000_000)
    redis.set("k", "v")
    redis.setrange("vast", 200_000_000, "x")
    vast = green.spawn(redis.get, "vast")
    small = [green.spawn(redis.get, "k") for _ in range(8)]
    assert failed(small) == []
    (error,) = failed([vast])
    assert isinstance(error, ReplyTooLarge)
    assert "reply_bytes (20000000)" in str(error)
    with pytest.raises(ReplyTooLarge), redis.pipeline() as pipeline:
        pipeline.watch("k")
        pipeline.get("vast")
    with pytest.raises(ReplyTooLarge):
        redis.pipeline().get("vast").execute()
    assert redis.getrange("vast", 199_999_999, -1) == b"\0x"
    redis.stop()


HOSTILE = {
    "a length beyond the limit": b"$99999999999999\r\n" + b"x" * 200_000,
    "a negative length": b"$-5\r\n",
    "a length with a sign": b"$+5\r\nhello\r\n",
    "a negative count": b"*-2\r\n",
    "a count beyond memory": b"*4294967295\r\n",
    "a hundred million members": b"*100000000\r\n",
    "129 arrays in arrays": b"*1\r\n" * 129,
    "arrays without end": b"*1\r\n" * 100_000,
    "no RESP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a bad number": b":12x\r\n",
    "a reply too many": b"+OK\r\n+OK\r\n",
}


@pytest.mark.parametrize("octets", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_reply_ends_its_connection_and_takes_no_memory(octets: bytes) -> None:
    def script(conversation: Conversation) -> None:
        greet(conversation)
        conversation.receive_until(b"k\r\n")
        conversation.send(octets)
        conversation.connection.settimeout(10)
        try:
            while conversation.connection.recv(65536):
                pass
        except OSError:
            pass

    before = _resident_bytes()
    with ScriptedPeer(script) as peer:
        redis = Redis(url=Secret(f"redis://127.0.0.1:{peer.port}"), socket_seconds=2, reply_bytes=100_000)
        began = monotonic()
        if octets == HOSTILE["a reply too many"]:
            redis.set("x", "k")
            eventually(lambda: not redis._multiplexer.links)
        else:
            with pytest.raises((Unavailable, ReplyTooLarge)):
                redis.set("x", "k")
        assert monotonic() - began < 1.5
        assert _resident_bytes() - before < 30_000_000
        redis.stop()


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_client_killed_in_the_middle_of_a_pipeline_hears_that_it_may_have_run(redis_server: PrivateValkey) -> None:
    redis = Redis(url=Secret(redis_server.url))
    redis.ping()
    redis_server.pause()
    for is_transaction in (False, True):
        pipeline = redis.pipeline(transaction=is_transaction)
        for _ in range(100):
            pipeline.incr("n")
        running = green.spawn(pipeline.execute)
        gevent.sleep(0.02)
        redis._multiplexer.links[0].connection._sock._sock.shutdown(2)
        (error,) = failed([running])
        assert isinstance(error, Unavailable)
        assert "may have been carried out" in str(error)
        if not is_transaction:
            redis_server.resume()
            redis.ping()
            redis_server.pause()
    redis_server.resume()
    assert redis.incr("n") in (1, 101, 201)  # a whole pipeline or nothing of it had arrived; the transaction is never half done
    assert redis.pipeline().get("n").execute() == [redis.get("n")]
    redis.stop()


def test_the_server_kills_a_client_whose_pipeline_runs(redis_server: PrivateValkey) -> None:
    redis = Redis(url=Secret(redis_server.url))
    redis.ping()
    pipeline = redis.pipeline(transaction=False)
    pipeline.incr("n").execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
    pipeline.incr("n")
    with pytest.raises(Unavailable, match="may have been carried out"):
        pipeline.execute()
    assert redis.get("n") == b"1"
    redis.stop()


def test_a_subscription_whose_client_is_killed_hears_of_the_gap(redis_server: PrivateValkey) -> None:
    redis = Redis(url=Secret(redis_server.url))
    with redis.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe("news")
        subscription.get_message(timeout=1)
        listener = green.spawn(lambda: next(subscription.listen()))
        gevent.sleep(0.05)
        redis.client_kill_filter(_type="pubsub")  # type: ignore[no-untyped-call]
        (error,) = failed([listener])
        assert isinstance(error, Unavailable)
    redis.stop()


def test_a_full_server_is_unavailable_for_writes_only(redis_server: PrivateValkey) -> None:
    redis = Redis(url=Secret(redis_server.url))
    redis.set("k", "v")
    redis.config_set("maxmemory", 1)
    with pytest.raises(Unavailable):
        redis.set("k", "w")
    with pytest.raises(Unavailable):
        redis.pipeline().set("k", "w").execute()
    assert redis.get("k") == b"v"
    assert redis._multiplexer.opened == 1
    redis.config_set("maxmemory", 0)
    assert redis.set("k", "w")
    redis.stop()


def test_a_server_that_cannot_save_is_unavailable_for_writes(redis_server: PrivateValkey) -> None:
    redis = Redis(url=Secret(redis_server.url))
    redis.config_set("min-replicas-to-write", 1)  # NOREPLICAS, as MISCONF: no write for now
    with pytest.raises(Unavailable):
        redis.set("k", "w")
    redis.config_set("min-replicas-to-write", 0)
    assert redis.set("k", "w")
    redis.stop()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"-LOADING Valkey is loading the dataset in memory", Unavailable),
        (b"-MISCONF Valkey is configured to save RDB snapshots", Unavailable),
        (b"-CLUSTERDOWN Hash slot not served", Unavailable),
        (b"-TRYAGAIN Multiple keys request during rehashing of slot", Unavailable),
        (b"-BUSY Valkey is busy running a script", Unavailable),
        (b"-MASTERDOWN Link with MASTER is down", Unavailable),
        (b"-NOAUTH Authentication required.", Unavailable),
        (b"-MOVED 3999 127.0.0.1:6381", ResponseError),
        (b"-NOPERM this user has no permissions to run the 'set' command", ResponseError),
        (b"-ERR wrong number of arguments", ResponseError),
    ],
)
def test_every_error_reply_has_a_decided_meaning(reply: bytes, kind: type[Exception]) -> None:
    def script(conversation: Conversation) -> None:
        greet(conversation)
        while True:
            try:
                conversation.receive_until(b"v\r\n")
            except AssertionError:
                return
            conversation.send(reply + b"\r\n")

    with ScriptedPeer(script) as peer:
        redis = Redis(url=Secret(f"redis://127.0.0.1:{peer.port}"))
        with pytest.raises(kind):
            redis.set("k", "v")
        with pytest.raises(kind):
            redis.pipeline(transaction=False).set("k", "v").execute()
        redis.stop()


def test_the_password_of_the_server_is_changed_and_known_later(redis_server: PrivateValkey) -> None:
    class Provider:
        password = "old"

        def get_credentials(self) -> tuple[str, ...]:
            return (self.password,)

    operator = Redis(url=Secret(redis_server.url))
    provider = Provider()
    redis = Redis(url=Secret(redis_server.url), credential_provider=provider, wait_seconds=0.2)
    with operator.pipeline(transaction=False) as pipeline:
        pipeline.config_set("requirepass", "old").execute()
    redis.set("k", "v")
    with redis.client() as single:
        single.config_set("requirepass", "new")
    assert redis.get("k") == b"v"  # who is let in stays in
    redis.client_kill_filter(_type="normal", skipme=False)  # type: ignore[no-untyped-call]
    for _ in range(3):
        with pytest.raises(Unavailable):
            redis.get("k")
    provider.password = "new"
    assert redis.get("k") == b"v"
    assert redis.blpop(["never"], 0.01) is None
    redis.stop()
    operator.stop()


def test_a_fork_leaves_the_connections_of_the_parent_alone(redis_server: PrivateValkey) -> None:
    redis = Redis(url=Secret(redis_server.url))
    is_over = False
    wrong: list[Any] = []

    def work(name: str) -> None:
        number = 0
        while not is_over:
            number += 1
            if redis.echo(f"{name} {number}") != f"{name} {number}".encode():  # type: ignore[no-untyped-call]
                wrong.append(name)

    busy = [gevent.spawn(work, f"parent {n}") for n in range(4)]
    gevent.sleep(0.05)
    child = os.fork()
    if child == 0:
        try:
            good = all(redis.echo(f"child {n}") == f"child {n}".encode() for n in range(200))  # type: ignore[no-untyped-call]
            good = good and len(redis._multiplexer.links) == 1 and redis.blpop(["never"], 0.01) is None
        finally:
            os._exit(0 if good else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    gevent.sleep(0.05)
    is_over = True
    assert failed(busy) == []
    assert (status, wrong) == (0, [])
    assert redis._multiplexer.opened == 1
    redis.stop()


def test_state_left_by_a_killed_greenlet_is_gone_for_the_next(redis_url: str) -> None:
    redis = Redis(url=Secret(redis_url), max_connections=1)

    def watch() -> None:
        with redis.pipeline() as pipeline:
            pipeline.watch("k")
            pipeline.multi()
            gevent.sleep(5)

    def listen() -> None:
        with redis.pubsub() as subscription:
            subscription.subscribe("news")
            list(subscription.listen())

    def other_database() -> None:
        with redis.client() as single:
            single.execute_command("SELECT", 3)
            gevent.sleep(5)

    for mess in (watch, listen, other_database):
        victim = gevent.spawn(mess)
        gevent.sleep(0.05)
        victim.kill()
        redis.set("k", "v")
        redis.rpush("l", 1)
        assert redis.blpop(["l"], 1) == (b"l", b"1")
        with redis.pipeline() as pipeline:
            pipeline.watch("k")
            assert pipeline.get("k") == b"v"
            pipeline.multi()
            pipeline.get("k")
            assert pipeline.execute() == [b"v"]
    redis.stop()
