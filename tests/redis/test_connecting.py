"""How a connection is made: TLS, users, databases, sockets, protocols."""

from collections.abc import Iterator
from pathlib import Path

import gevent
import gevent.socket
import gevent.ssl
import pytest
from private_servers import PrivateValkey
from tls_front import TlsFront

from nucleon import green
from nucleon.errors import SetupError, Unavailable
from nucleon.redis import Redis
from nucleon.secret import Secret
from nucleon.testing.waiting import eventually


@pytest.fixture
def front(redis_server: PrivateValkey, tmp_path: Path) -> Iterator[TlsFront]:
    front = TlsFront(redis_server.address, tmp_path)
    yield front
    front.close()


def test_tls_carries_small_and_large_replies_of_many_greenlets(front: TlsFront) -> None:
    redis = Redis(url=Secret(f"rediss://localhost:{front.port}/1?ssl_ca_certs={front.authority}"))
    redis.set("large", "x" * 300_000)  # many TLS records
    asked = [green.spawn(redis.echo, f"{n}") for n in range(200)] + [green.spawn(redis.get, "large") for _ in range(3)]
    assert [one.get() for one in asked[:200]] == [f"{n}".encode() for n in range(200)]
    assert all(len(one.get()) == 300_000 for one in asked[200:])
    done = [green.spawn(redis.set, f"k{n}", "y" * 30_000) for n in range(200)]  # more than a socket takes at once
    assert all(one.get() for one in done)
    redis.client_kill_filter(_type="normal", skipme=False)  # type: ignore[no-untyped-call]
    gevent.sleep(0.05)
    assert redis.strlen("k199") == 30_000
    assert redis.blpop(["never"], 0.01) is None
    redis.stop()


def test_tls_carries_hashes_and_the_notices_of_changed_keys(front: TlsFront, redis_server: PrivateValkey) -> None:
    address = f"rediss://localhost:{front.port}/0?ssl_ca_certs={front.authority}"
    redis, other = Redis(url=Secret(address), protocol=3, local_bytes=1_000_000), Redis(url=Secret(redis_server.url))
    sizes = (1, 50, 500, 3000)  # below, at and above what one TLS record holds
    for size in sizes:
        other.hset(f"h{size}", mapping={f"field {number}": f"value {number}" for number in range(size)})
    asked = [(size, green.spawn(redis.hgetall, f"h{size}")) for _ in range(30) for size in sizes]
    assert all(len(one.get()) == size and one.get()[b"field 0"] == b"value 0" for size, one in asked)
    eventually(lambda: repr(redis).find("; 4 copies") > 0 or [redis.hgetall(f"h{size}") for size in sizes] == [])
    other.hset("h50", "field 0", "changed")
    eventually(lambda: redis.hgetall("h50")[b"field 0"] == b"changed")
    redis.stop()


def test_a_certificate_that_nobody_vouches_for_is_refused(front: TlsFront) -> None:
    redis = Redis(url=Secret(f"rediss://localhost:{front.port}"))
    with pytest.raises(Unavailable) as caught:
        redis.ping()
    assert "certificate verify failed" in str(caught.value.__cause__)
    redis.stop()


def test_a_user_of_the_acl_may_do_what_he_may(redis_server: PrivateValkey) -> None:
    operator = Redis(url=Secret(redis_server.url))
    operator.acl_setuser("shop", enabled=True, passwords=["+se:cret"], commands=["+get", "+set", "+select"], keys=["shop:*"])
    shop = Redis(url=Secret(redis_server.url.replace("unix://", "unix://shop:se%3Acret@") + "?db=2"))
    assert shop.set("shop:1", "x")  # this user may not even PING
    assert shop.get("shop:1") == b"x"
    with pytest.raises(Exception, match="permissions"):
        shop.set("other", "x")
    with pytest.raises(Exception, match="permissions"):
        shop.incr("shop:1")
    assert operator.get("shop:1") is None
    wrong = Redis(url=Secret(redis_server.url.replace("unix://", "unix://shop:wrong@")))
    for _ in range(2):
        with pytest.raises(Unavailable):
            wrong.get("shop:1")
    for one in (operator, shop, wrong):
        one.stop()


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_database_is_chosen_by_its_number(redis_server: PrivateValkey, protocol: int) -> None:
    first, second = (Redis(url=Secret(f"{redis_server.url}?db={number}"), protocol=protocol) for number in (0, 5))
    first.set("k", "first")
    second.set("k", "second")
    assert (first.get("k"), second.get("k")) == (b"first", b"second")
    assert second.pipeline().get("k").execute() == [b"second"]
    assert "database 5" in repr(second)
    first.stop()
    second.stop()


def test_pushes_of_resp3_disturb_no_reply(redis_server: PrivateValkey) -> None:
    redis, other = (Redis(url=Secret(redis_server.url), protocol=3) for _ in range(2))
    redis.ping()
    redis._multiplexer.ask(b"CLIENT TRACKING ON BCAST\r\n")  # the server now pushes what others change
    for number in range(50):
        other.set("k", number)
        assert redis.get("k") == f"{number}".encode()
        assert redis.hgetall("none") == {}
    assert redis._multiplexer.opened == 1
    redis.stop()
    other.stop()


def test_a_name_that_takes_too_long_to_resolve_ends_at_the_connect_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: gevent.sleep(30))
    redis = Redis(url=Secret("redis://slow.example"), connect_seconds=0.1)
    for ask in (redis.ping, lambda: redis.blpop(["k"], 1)):
        with gevent.Timeout(2), pytest.raises(Unavailable):
            ask()
    redis.stop()


def test_sentinels_need_a_host_name() -> None:
    with pytest.raises(SetupError, match="redis:// or rediss://"):
        Redis(url=Secret("unix:///tmp/redis.sock"), sentinels=("a:1",))
