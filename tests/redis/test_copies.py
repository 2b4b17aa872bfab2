"""Replies kept in the worker (client-side caching): never older than what the server has told of."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from redis.exceptions import DataError, ResponseError

from nucleon import green, hooks
from nucleon.errors import SetupError, Unavailable
from nucleon.redis import Redis, Settings
from nucleon.redis.copies import HEARD_SECONDS
from nucleon.secret import Secret
from nucleon.testing.waiting import eventually

Made = Callable[..., Redis]


@pytest.fixture
def made(redis_server: Any) -> Iterator[Made]:
    """Makes clients of a server of its own; with copies unless told otherwise."""
    clients: list[Redis] = []

    def make(**settings: Any) -> Redis:
        clients.append(Redis(**{"url": Secret(redis_server.url), "protocol": 3, "local_bytes": 1_000_000, **settings}))
        return clients[-1]

    yield make
    for client in clients:
        client.stop()


def copies(client: Redis) -> Any:
    assert client._copies is not None
    return client._copies


def hits(client: Redis, ask: Callable[[], object]) -> bool:
    before = copies(client).hits
    ask()
    return bool(copies(client).hits > before)


def test_what_was_read_is_not_asked_for_again(made: Made) -> None:
    ours, other = made(), made(local_bytes=0)
    other.set("k", "v")
    other.hset("h", mapping={"a": "1"})
    other.config_resetstat()
    for _ in range(50):
        assert ours.get("k") == b"v"
        assert ours.hgetall("h") == {b"a": b"1"}
        assert ours.get("absent") is None
    calls = other.info("commandstats")
    assert (calls["cmdstat_get"]["calls"], calls["cmdstat_hgetall"]["calls"]) == (2, 1)
    assert "3 copies" in repr(ours)


def test_the_write_of_another_client_is_seen(made: Made) -> None:
    ours, other = made(), made(local_bytes=0)
    for change, ask in (
        (lambda value: other.set("k", value), lambda: ours.get("k")),
        (lambda value: other.hset("h", "f", value), lambda: ours.hgetall("h").get(b"f")),
        (lambda value: other.eval("return redis.call('SET', 'hid' .. 'den', ARGV[1])", 0, value), lambda: ours.get("hidden")),
    ):
        for value in (b"1", b"2", b"3"):
            change(value)
            eventually(lambda ask=ask, value=value: ask() == value)
            eventually(lambda ask=ask: hits(ours, ask))


def test_our_own_write_is_seen_at_once(made: Made) -> None:
    ours = made(prefix="shop:")
    script = ours.register_script("return redis.call('SET', KEYS[1], ARGV[1])")
    writes: list[Callable[[bytes], object]] = [
        lambda value: ours.set("k", value),
        lambda value: ours.pipeline().set("k", value).execute(),
        lambda value: script(keys=["k"], args=[value]),
        lambda value: ours.execute_command("set", b"k", value),
        lambda value: ours.mset({"a": 1, "k": value}),
    ]
    for turn in range(200):
        value = b"%d" % turn
        ours.get("k")
        random.choice(writes)(value)
        assert ours.get("k") == value
    with ours.client() as one:
        ours.get("k")
        one.set("k", "by a connection of its own")
        assert ours.get("k") == b"by a connection of its own"
    ours.rename("k", "a")
    assert ours.get("k") is None


def test_flushall_forgets_everything(made: Made) -> None:
    ours, other = made(), made(local_bytes=0)
    other.mset({f"k{number}": 1 for number in range(100)})
    assert [ours.get(f"k{number}") for number in range(100)] == [b"1"] * 100
    other.flushall()
    eventually(lambda: len(copies(ours)) == 0)
    assert ours.get("k7") is None
    assert copies(ours).bytes == copies(ours)._kept[next(iter(copies(ours)._kept))].size


def test_copies_go_with_their_connection(made: Made) -> None:
    ours, other = made(), made(local_bytes=0)
    other.set("k", "before")
    assert ours.get("k") == b"before"
    other.client_kill_filter(_type="normal", skipme=True)
    eventually(lambda: len(copies(ours)) == 0)
    other.set("k", "after")
    assert ours.get("k") == b"after"
    assert len(copies(ours)) == 1


def test_copies_go_when_the_server_turns_out_to_be_a_replica(made: Made) -> None:
    ours, other = made(), made(local_bytes=0)
    ours.set("k", "v")
    eventually(lambda: hits(ours, lambda: ours.get("k")))
    other.execute_command("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(Unavailable):
        ours.set("other", "w")  # READONLY: the connections are replaced
    assert len(copies(ours)) == 0


def test_copies_do_not_outlive_a_restart_of_the_server(made: Made, redis_server: Any) -> None:
    ours = made()
    ours.config_set("appendonly", "no")
    ours.set("k", "v")
    assert ours.get("k") == ours.get("k") == b"v"
    redis_server.kill()
    eventually(lambda: len(copies(ours)) == 0)
    with pytest.raises(Unavailable):
        ours.get("k")
    redis_server.start()
    other = made(local_bytes=0)
    other.set("k", "w")
    assert eventually(lambda: ours.get("k")) == b"w"


def test_a_server_that_went_silent_is_not_believed_for_long(made: Made, redis_server: Any) -> None:
    ours = made(socket_seconds=0.2, wait_seconds=0.2)
    ours.set("k", "v")
    ours.get("k")
    redis_server.pause()
    started = monotonic()
    try:
        with pytest.raises(Unavailable):
            while monotonic() < started + 10:
                assert ours.get("k") == b"v"
                green.sleep(0.01)
        assert monotonic() - started < HEARD_SECONDS + 5
    finally:
        redis_server.resume()
    assert eventually(lambda: ours.get("k")) == b"v"


def test_a_copy_ends_with_its_key(made: Made) -> None:
    ours, other = made(), made(local_bytes=0)
    other.config_set("hz", "1")  # the server itself takes its time to delete what is expired
    for _ in range(5):
        other.set("k", "v", px=40)
        while other.exists("k"):
            ours.get("k")
        assert ours.get("k") is None
    other.set("k", "v")
    ours.get("k")
    other.expire("k", 0)
    eventually(lambda: ours.get("k") is None)


def test_the_bounds_hold(made: Made) -> None:
    ours = made(local_entries=10, local_bytes=20_000, local_prefixes=("kept:", "also:"), prefix="shop:")
    for number in range(100):
        ours.get(f"kept:{number}")
        assert len(copies(ours)) <= 10
    assert hits(ours, lambda: ours.get("kept:99"))
    assert not hits(ours, lambda: ours.get("kept:5"))
    for number in range(20):
        ours.set(f"also:{number}", "x" * 4000)
        eventually(lambda number=number: hits(ours, lambda: ours.get(f"also:{number}")))
        assert copies(ours).bytes <= 20_000
    ours.set("also:large", "x" * 40_000)
    assert ours.get("also:large") == ours.get("also:large") == b"x" * 40_000
    assert copies(ours).bytes <= 20_000
    ours.get("other")
    assert not hits(ours, lambda: ours.get("other"))
    copies(ours).clear()
    assert (copies(ours).bytes, copies(ours)._places) == (0, {})


def test_the_copy_used_longest_ago_gives_way(made: Made) -> None:
    ours = made(local_entries=4)
    uses: list[int] = []
    for number in [0, 1, 2, 3, 0, 2, 0, 0, 4, 5, 0, 6, 2, 7, 8, 0, 1, 8]:
        kept = uses[::-1]
        recent = sorted(set(kept), key=kept.index)[:4]  # the last four different ones
        assert hits(ours, lambda number=number: ours.get(f"k{number}")) == (number in recent)
        uses.append(number)
    assert len(copies(ours)) == 4
    for forget in (lambda: ours.set("k8", "x"), lambda: ours.set("k6", "x"), lambda: ours.delete("k1", "k0"), lambda: ours.flushall()):
        forget()
        ours.ping()  # its reply comes after the notice
        for number in range(6):
            assert ours.get(f"k{number}") is ours.get(f"k{number}") is None
        assert [hits(ours, lambda number=number: ours.get(f"k{number}")) for number in (2, 3, 4, 5, 1)] == [True] * 4 + [False]


def test_a_copy_is_found_by_the_same_words_and_told_of_like_every_command(made: Made) -> None:
    ours = made(prefix="shop:", decode_responses=True)
    ours.set("1", "one"), ours.hset("h", mapping={"1": "x"})
    ours.set("True", "yes")

    class Name(str):
        pass

    for _ in range(3):
        assert [ours.get(name) for name in ("1", b"1", 1, bytearray(b"1"), Name("1"))] == ["one"] * 5
        assert [ours.hget("h", "1"), ours.hget("h", 1), ours.hget("h", "1.0"), ours.hget("h", 1.0)] == ["x", "x", None, None]  # type: ignore[arg-type]
        assert ours.get("True") == "yes"
        with pytest.raises(DataError):
            ours.get(True)
        assert ours.execute_command("GET", "1", NEVER_DECODE=True) == b"one"
    assert set(copies(ours)._by_words) == {("GET", "1"), ("GET", "True"), ("HGET", "h", "1"), ("HGET", "h", "1.0")}
    told: list[object] = []

    def listen(**event: object) -> None:
        told.append((event["resource"], event["statement"], event["error"]))

    calls = ours.calls
    hooks.query_ended.add(listen)
    try:
        assert hits(ours, lambda: ours.get("1"))
    finally:
        hooks.query_ended.remove(listen)
    assert hits(ours, lambda: ours.get("1"))
    assert (told, ours.calls, ours.failures) == ([("redis", "GET", None)], calls + 2, 0)

    ours.set_response_callback("GET", lambda reply: f"<{reply}>")
    assert [ours.get("1") for _ in range(3)] == ["<one>"] * 3
    ours.set("1", "two")
    assert [ours.get("1") for _ in range(3)] == ["<two>"] * 3
    copies(ours).clear()
    assert (len(copies(ours)), copies(ours)._by_words, copies(ours)._oldest, copies(ours)._newest) == (0, {}, None, None)


def test_who_changes_a_reply_changes_no_copy(made: Made) -> None:
    ours = made(decode_responses=True)
    ours.hset("h", mapping={"a": "1"})
    ours.rpush("l", "a", "b")
    ours.sadd("s", "a")
    for _ in range(3):
        for reply in (ours.hgetall("h"), ours.lrange("l", 0, -1), ours.smembers("s")):
            assert len(reply) in (1, 2)
            reply.clear()
    assert ours.execute_command("GET", "h2", NEVER_DECODE=True) is ours.get("h2") is None
    ours.set("text", "ü")
    assert [ours.get("text"), ours.execute_command("GET", "text", NEVER_DECODE=True)] * 2 == ["ü", "ü".encode()] * 2


def test_a_greenlet_killed_while_it_reads_leaves_no_place(made: Made, redis_server: Any) -> None:
    ours, other = made(), made(local_bytes=0)
    other.set("k", "1")
    ours.ping()
    for turn in range(20):
        readers = [green.spawn(ours.get, "k") for _ in range(3)]
        green.sleep(0)
        for reader in readers:
            reader.kill()
        assert all(copy.link is not None for names in copies(ours)._places.values() for copy in names.values())
        other.set("k", f"{turn}")
        ours.ping()  # its reply comes after the notice
        assert ours.get("k") == b"%d" % turn


def test_a_reply_is_not_kept_when_its_key_changed_before_it_came(made: Made) -> None:
    ours = made()
    ours.ping()
    kept = copies(ours)
    (link,) = ours._multiplexer.links
    for forget in (
        lambda: kept.pushed([b"invalidate", [b"k"]]),
        lambda: kept.pushed([b"invalidate", None]),
        lambda: kept.clear(),
        lambda: ours.set("k", "w"),
    ):
        place = kept.begin(b"GET k", b"k")
        assert kept.begin(b"GET k", b"k") is None  # one at a time
        forget()
        place.settle(link, [b"OK", b"v", -1])
        assert (len(kept), kept._places) == (0, {})
    for replies in ([ResponseError("not tracking"), b"v", -1], [b"OK", ResponseError("no"), -1], [b"OK", b"v", -2]):
        kept.begin(b"GET k", b"k").settle(link, replies)
        assert (len(kept), kept._places) == (0, {})


def test_a_user_who_may_not_track_reads_without_copies(made: Made, redis_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    admin = made(local_bytes=0)
    admin.acl_setuser("reader", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-client|tracking"])
    ours = made(url=Secret(redis_server.url + "?username=reader&password=secret"))
    admin.set("k", "v")
    assert [ours.get("k") for _ in range(3)] == [b"v"] * 3
    assert len(copies(ours)) == 0
    assert "refuses CLIENT TRACKING" in caplog.text


def test_another_thread_asks_the_server(made: Made) -> None:
    ours = made()
    ours.set("k", "v")
    ours.get("k")
    seen: list[object] = []
    before = copies(ours).hits
    green.in_thread(lambda: seen.extend([ours.get("k"), ours.set("k", "w"), ours.get("k")]))
    assert seen == [b"v", True, b"w"]
    assert copies(ours).hits == before
    assert eventually(lambda: ours.get("k") == b"w")
    assert threading.current_thread() is threading.main_thread()


def test_typed_values_and_kept_answers_come_from_copies_until_somebody_changes_them(made: Made) -> None:
    here, there, watcher = made(), made(), made(local_bytes=0)
    loads = 0

    def load(id: int = 0) -> int:
        nonlocal loads
        loads += 1
        return loads

    def answer() -> tuple[list[tuple[str, str]], bytes]:
        return [("Content-Type", "text/plain")], b"%d" % load()

    def commands() -> int:
        return sum(count["calls"] for name, count in watcher.info("commandstats").items() if name in ("cmdstat_get", "cmdstat_evalsha"))

    numbers = [client.of(int, "number:{id}", ttl_seconds=60) for client in (here, there)]
    answers = [client.answers(ttl_seconds=60) for client in (here, there)]
    pairs: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (lambda: numbers[0].get_or(load, id=1), lambda: numbers[1].invalidate(id=1)),
        (lambda: answers[0].get_or(" /x?", answer).body, lambda: answers[1].invalidate("/x")),
    ]
    for read, forget in pairs:
        first = read()
        eventually(lambda read=read: hits(here, read))
        before = commands()
        assert [read() for _ in range(20)] == [first] * 20
        assert commands() == before
        forget()
        second = eventually(lambda read=read, first=first: (found := read()) != first and found)
        eventually(lambda read=read: hits(here, read))
        assert read() == second


def test_an_answer_that_this_worker_invalidates_is_gone_at_once(made: Made) -> None:
    ours = made(prefix="shop:")
    answers, made_answers = ours.answers(ttl_seconds=60), 0

    def answer() -> tuple[list[tuple[str, str]], bytes]:
        nonlocal made_answers
        made_answers += 1
        return [], b"%d" % made_answers

    for turn in range(1, 100):
        assert [answers.get_or(" /x?", answer).body for _ in range(3)] == [b"%d" % turn] * 3
        answers.invalidate("/x")
    assert "copies" in repr(answers)


def test_a_forked_child_has_no_copies_of_its_parent(made: Made) -> None:
    ours = made()
    ours.set("k", "v")
    eventually(lambda: hits(ours, lambda: ours.get("k")))
    child = os.fork()
    if child == 0:
        good = False
        try:
            good = len(copies(ours)) == 0 and ours.get("k") == b"v" and len(copies(ours)) == 1
        finally:
            os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert hits(ours, lambda: ours.get("k"))


def test_copies_need_the_third_protocol() -> None:
    with pytest.raises(SetupError, match="protocol = 3"):
        Settings(local_bytes=1)


@pytest.mark.parametrize(("connections", "lost_every_seconds"), [(1, 0), (2, 0), (1, 0.1)])
def test_nobody_reads_older_than_what_is_known(made: Made, connections: int, lost_every_seconds: float) -> None:
    """Random writes by this client and another, readers killed at random, connections cut."""
    ours, other = made(shared_connections=connections, wait_seconds=5.0), made(local_bytes=0)
    admin = made(local_bytes=0)
    keys = [f"k{number}" for number in range(8)]
    known, versions, reads = dict.fromkeys(keys, 0), dict.fromkeys(keys, 0), 0
    end = monotonic() + 2
    is_large = connections == 2  # large replies make it use the second connection, whose order says nothing about the first

    def write(key: str, by: Redis) -> None:
        versions[key] = version = versions[key] + 1
        try:
            by.set(key, f"{version}:" + "x" * (random.choice([10, 100_000]) if is_large else 10))
            if by is other:
                ours.ping()  # its reply comes after the notice
        except Unavailable:
            assert lost_every_seconds  # a write that was cut off may have been carried out
            return
        known[key] = max(known[key], version)

    def writer(own: list[str]) -> None:
        while monotonic() < end:
            write(random.choice(own), ours if is_large or random.random() < 0.5 else other)
            green.sleep(random.choice([0, 0.001]))

    def reader() -> None:
        nonlocal reads
        while monotonic() < end:
            key = random.choice(keys)
            least = known[key]
            try:
                found = ours.get(key)
            except Unavailable:
                assert lost_every_seconds  # cut off three times
                continue
            assert int(found.partition(b":")[0]) >= least
            reads += 1
            if random.random() < 0.1:
                green.sleep(0)

    for key in keys:
        write(key, ours)
    writers = [green.spawn(writer, [key]) for key in keys]  # one writer a key: its versions are in order
    readers = [green.spawn(reader) for _ in range(6)]
    cut_at = monotonic() + lost_every_seconds if lost_every_seconds else end
    while monotonic() < end:
        if monotonic() > cut_at:
            cut_at += lost_every_seconds
            admin.client_kill_filter(_type="normal", skipme=True)
        victim = random.randrange(len(readers))
        readers[victim].kill()
        readers[victim].get()
        readers[victim] = green.spawn(reader)
        green.sleep(0.005)
    for one in (*writers, *readers):
        one.get()
    assert copies(ours).hits > 0 and reads > 0
    assert copies(ours).forgotten > 50
