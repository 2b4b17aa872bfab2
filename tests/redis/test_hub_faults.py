"""The hub under attack: foreign bytes, floods, slow servers, subscribers that come and go in the middle."""

import os
import subprocess
import sys
from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from nucleon import Model, green
from nucleon.errors import SetupError
from nucleon.redis import Gap, Message, Redis
from nucleon.secret import Secret
from nucleon.testing import TcpProxy, eventually


class Entry(Model):
    text: str


@pytest.mark.parametrize("protocol", [2, 3])
def test_bytes_that_are_no_text_reach_a_client_that_decodes_responses(redis_url: str, protocol: int) -> None:
    redis = Redis(url=Secret(redis_url), decode_responses=True, protocol=protocol)
    with redis.hub().subscribe("a") as channel, redis.hub().psubscribe("a*") as pattern:
        for data in (b"\xff\xfe", "gr\u00fc\u00df".encode()):
            redis.hub().publish("a", data)
            assert (channel.get(5), pattern.get(5)) == (Message("a", data), Message("a", data, "a*"))
    assert redis.hub().reconnects == 1
    redis.stop()


@pytest.mark.parametrize("junk", [b'"\xff"', b"[" * 100_000, b"no JSON"])
def test_a_message_that_cannot_be_read_is_left_out_whatever_is_wrong_with_it(redis: Redis, junk: bytes) -> None:
    chat = redis.topic(object, "chat:{room}")
    with chat.subscribe(room=1) as heard:
        redis.publish("chat:1", junk)
        chat.publish("hello", room=1)
        assert heard.get(5) == "hello"
        assert heard.unreadable == 1


def test_messages_that_cannot_be_read_do_not_prolong_a_wait(redis: Redis) -> None:
    def trouble() -> None:
        while True:
            redis.publish("chat:1", b"no JSON")
            green.sleep(0.02)

    with redis.topic(Entry, "chat:{room}").subscribe(room=1) as heard:
        noise = green.spawn(trouble)
        eventually(lambda: heard.received)
        with green.deadline(10):
            assert heard.get(0.1) is None
        noise.kill()


FLOOD = """
import socket, sys, threading
flood = socket.socket(socket.AF_UNIX)
flood.connect(sys.argv[1])
def drain():
    while flood.recv(65536):
        pass
threading.Thread(target=drain, daemon=True).start()
for _ in range(60):
    flood.sendall(b"*3\\r\\n$7\\r\\nPUBLISH\\r\\n$1\\r\\na\\r\\n$5\\r\\nhello\\r\\n" * 1000)
flood.shutdown(socket.SHUT_WR)
sys.stdin.read()
"""


def test_a_flood_of_messages_leaves_the_worker_to_others(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    heard = redis.hub().subscribe("a", maximum=10)
    most, before, is_over = 0, 0, False

    def others() -> None:
        nonlocal most, before
        while not is_over:
            most, before = max(most, heard.received - before), heard.received
            green.sleep(0)

    witness = green.spawn(others)
    with subprocess.Popen([sys.executable, "-c", FLOOD, redis_server.address], stdin=subprocess.PIPE) as flood:
        eventually(lambda: heard.received >= 60_000, within_seconds=60)
        flood.communicate()
    is_over = True
    witness.join()
    assert most <= 200, "so many messages were taken while nobody else could run"
    redis.stop()


def test_gaps_side_by_side_are_one_however_often_the_connection_is_lost(redis: Redis) -> None:
    stuck = redis.hub().subscribe("a", maximum=1, overflow="drop_newest")
    witness = redis.hub().subscribe("b")
    for _ in range(5):
        redis.publish("a", "x")
        redis.publish("b", "y")
        assert isinstance(witness.get(5), Message)
        redis.client_kill_filter(_type="pubsub")
        assert witness.get(5) == Gap()
    found = [stuck.get(0.01) for _ in range(3)]
    assert found == [Message("a", b"x"), Gap(), None]
    assert stuck.missed == 4


def test_a_subscription_names_what_it_is_for(redis: Redis) -> None:
    for names in ((), (b"a",), (5,)):
        with pytest.raises(SetupError, match="channel"):
            redis.hub().subscribe(*names)


LONG = "x" * 3_000_000  # more than a socket takes at once: who sends it waits


def test_a_subscriber_that_leaves_while_its_channel_is_asked_for_harms_nobody(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    heard = redis.hub().subscribe("a")
    redis_server.pause()
    leaving = green.spawn(redis.hub().subscribe, LONG)
    eventually(lambda: ("channel", LONG) in redis.hub()._asked)  # and the question is half sent
    leaving.kill()
    redis_server.resume()
    for number in range(3):
        assert redis.publish("a", number) == 1
        assert heard.get(5) == Message("a", b"%d" % number)
    assert redis.hub().reconnects == 1
    redis.stop()


def test_a_subscriber_that_comes_while_its_channel_is_left_hears_all(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    hub = redis.hub()
    other = hub.subscribe("a")
    first = hub.subscribe(LONG)
    redis_server.pause()
    first.close()
    eventually(lambda: ("channel", LONG) not in hub._asked)  # and the word that it is left is half sent
    coming = green.spawn(hub.subscribe, LONG)
    green.sleep(0)
    redis_server.resume()
    second = coming.get(timeout=10)
    assert redis.publish(LONG, "x") == 1
    assert second.get(5) == Message(LONG, b"x")
    assert redis.publish("a", "y") == 1
    assert other.get(5) == Message("a", b"y")
    redis.stop()


def test_an_old_confirmation_is_not_taken_for_a_new_one(redis_server: Any) -> None:
    with TcpProxy(redis_server.address) as proxy:
        far, near = Redis(url=Secret(f"redis://127.0.0.1:{proxy.port}")), Redis(url=Secret(redis_server.url))
        hub = far.hub()
        with hub.subscribe("chatter"):
            proxy.delay(0.5, "to_server")
            leaving = green.spawn(hub.subscribe, "a")
            green.sleep(0)
            near.publish("chatter", "x")  # makes the hub look what is wanted
            eventually(lambda: ("channel", "a") in hub._asked)
            leaving.kill()
            near.publish("chatter", "x")
            eventually(lambda: ("channel", "a") not in hub._asked)
            with hub.subscribe("a") as heard:  # its question is on its way behind the other two
                for number in range(100):
                    near.publish("a", number)
                    green.sleep(0.01)
                assert [heard.get(0.5) for _ in range(100)] == [Message("a", b"%d" % number) for number in range(100)]
        far.stop()
        near.stop()


def user_with(admin: Redis, url: str, *channels: str) -> Redis:
    admin.acl_setuser(
        "app", enabled=True, nopass=True, commands=["+@all"], keys=["*"], channels=list(channels), reset_channels=True
    )
    return Redis(url=Secret(url.replace("unix://", "unix://app:any@")))


def test_a_channel_that_the_user_may_not_hear_is_refused_and_cuts_nobody_off(redis_server: Any) -> None:
    admin = Redis(url=Secret(redis_server.url))
    redis = user_with(admin, redis_server.url, "nucleon:hub:*", "mine*")
    hub = redis.hub()
    with hub.subscribe("mine") as heard:
        asking = [green.spawn(hub.subscribe, name) for name in ("secret", "mine too")]
        with pytest.raises(NoPermissionError):
            asking[0].get(timeout=5)
        with asking[1].get(timeout=5) as too, pytest.raises(NoPermissionError):
            hub.psubscribe("*")
        with pytest.raises(NoPermissionError):
            hub.subscribe("secret")
        admin.publish("mine", "x")
        assert heard.get(5) == Message("mine", b"x")
    assert too.received == 0
    assert (hub.reconnects, hub._questions, hub._unconfirmed) == (1, type(hub._questions)(), {})
    redis.stop()
    admin.stop()


def test_a_user_who_may_not_hear_the_hub_itself_is_told_at_once(redis_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    admin = Redis(url=Secret(redis_server.url))
    redis = user_with(admin, redis_server.url, "mine")
    with pytest.raises(NoPermissionError):
        redis.hub().subscribe("mine")
    assert "&nucleon:hub:*" in caplog.text
    admin.acl_setuser("app", enabled=True, channels=["*"])
    with redis.hub().subscribe("mine"):
        assert admin.publish("mine", "x") == 1
    redis.stop()
    admin.stop()


def test_hundreds_of_channels_are_heard_again_after_a_lost_connection(redis: Redis) -> None:
    hub = redis.hub()
    many = [hub.subscribe(f"channel {number}") for number in range(300)]
    redis.client_kill_filter(_type="pubsub")
    assert {one.get(10) for one in many} == {Gap()}
    for number, one in enumerate(many):
        redis.publish(f"channel {number}", number)
        assert one.get(5) == Message(f"channel {number}", b"%d" % number)


def test_a_message_costs_no_look_at_all_the_other_channels(redis: Redis) -> None:
    class Counted(dict):  # type: ignore[type-arg]
        looks = 0

        def __iter__(self) -> Any:
            Counted.looks += 1
            return super().__iter__()

    hub = redis.hub()
    many = [hub.subscribe(f"channel {number}") for number in range(20)]
    hub._places = Counted(hub._places)
    with redis.pipeline(transaction=False) as pipeline:
        for number in range(100):
            pipeline.publish("channel 3", number)
        pipeline.execute()
    assert [heard.data for heard in (many[3].get(5) for _ in range(100)) if isinstance(heard, Message)] == [b"%d" % n for n in range(100)]
    assert Counted.looks == 0


def test_a_forked_child_takes_no_messages_from_its_parent(redis: Redis) -> None:
    hub = redis.hub()
    heard = hub.subscribe("a")
    child = os.fork()
    if child == 0:
        good = False
        try:
            with hub.subscribe("b") as own:
                redis.publish("b", "ready")
                good = own.get(5) == Message("b", b"ready")
                good = good and own.get(5) == Message("b", b"enough") and heard.received == 0
        finally:
            os._exit(0 if good else 1)
    eventually(lambda: redis.pubsub_numsub("b") == [(b"b", 1)])
    for number in range(50):
        redis.publish("a", number)
        green.sleep(0.005)
    redis.publish("b", "enough")
    assert [heard.get(1) for _ in range(50)] == [Message("a", b"%d" % number) for number in range(50)]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert hub.reconnects == 1


def test_a_hub_that_was_stopped_begins_anew_even_while_it_stops(redis: Redis) -> None:
    hub = redis.hub()
    for _ in range(3):
        before = hub.subscribe("a")
        stopping = green.spawn(hub.stop)
        coming = green.spawn(hub.subscribe, "a")
        stopping.get(timeout=5)
        after = coming.get(timeout=5)
        assert redis.publish("a", "x") == 1
        assert after.get(5) == Message("a", b"x")
        assert (list(before), after.missed) == ([], 0)
        after.close()
        hub.stop()
        assert not hub.is_connected
