"""The hub: one connection for many subscribers, bounded queues, gaps that are told."""

import random
from typing import Any

import pytest

from nucleon import Model, green
from nucleon.errors import DeadlineExceeded, SetupError, Unavailable
from nucleon.redis import Gap, Hub, Message, Redis, Subscription, SubscriptionClosed
from nucleon.secret import Secret
from nucleon.testing import TcpProxy, eventually


class Entry(Model):
    text: str


def texts(subscription: Subscription[Message], count: int) -> list[str]:
    found = []
    for _ in range(count):
        item = subscription.get(5)
        assert isinstance(item, Message), item
        found.append(item.data.decode())
    return found


def test_every_subscriber_hears_everything_in_order_over_one_connection(redis: Redis) -> None:
    hub = redis.hub()
    listeners = [hub.subscribe("news") for _ in range(50)] + [hub.psubscribe("n*") for _ in range(50)]
    for number in range(20):
        redis.publish("news", number)
    for listener in listeners:
        assert texts(listener, 20) == [str(number) for number in range(20)]
    assert len([one for one in redis.client_list() if int(one["sub"]) or int(one["psub"])]) == 1
    assert "100 subscribers of 2 channels" in repr(hub)


def test_what_is_published_after_subscribe_returned_is_heard(redis: Redis) -> None:
    hub = redis.hub()
    for number in range(30):
        with hub.subscribe(f"channel {number}") as listener:
            assert redis.publish(f"channel {number}", "x") == 1
            assert texts(listener, 1) == ["x"]


def test_channels_are_left_with_their_last_subscriber_and_the_connection_later(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(Hub, "TICK_SECONDS", 0.02)
    hub = redis.hub()
    with hub.subscribe("a", "b"), hub.subscribe("b") as kept:
        pass
    kept.close()
    eventually(lambda: redis.pubsub_channels() == [])
    assert "not connected: 0 subscribers of 0 channels" in repr(hub)
    with hub.subscribe("a") as again:
        redis.publish("a", "still works")
        assert texts(again, 1) == ["still works"]


def test_a_full_queue_drops_the_oldest_and_says_how_many(redis: Redis) -> None:
    with redis.hub().subscribe("n", maximum=3) as slow, redis.hub().subscribe("n") as quick:
        for number in range(10):
            redis.publish("n", number)
        texts(quick, 10)
        assert slow.get() == Gap(7)
        assert texts(slow, 3) == ["7", "8", "9"]
        assert "7 missed" in repr(slow)


def test_a_full_queue_drops_the_newest_and_says_where(redis: Redis) -> None:
    with redis.hub().subscribe("n", maximum=3, overflow="drop_newest") as slow, redis.hub().subscribe("n") as quick:
        for number in range(10):
            redis.publish("n", number)
        texts(quick, 10)
        assert texts(slow, 3) == ["0", "1", "2"]
        assert slow.get() == Gap(7)
        redis.publish("n", "next")
        assert texts(slow, 1) == ["next"]


def test_a_full_queue_closes_its_subscriber_and_harms_nobody_else(redis: Redis) -> None:
    hub = redis.hub()
    with hub.subscribe("n", maximum=3, overflow="close") as slow, hub.subscribe("n") as quick:
        for number in range(10):
            redis.publish("n", number)
        assert texts(quick, 10)[-1] == "9"
        assert texts(slow, 3) == ["0", "1", "2"]
        with pytest.raises(SubscriptionClosed):
            slow.get()
        assert slow.is_overrun and "overrun" in repr(slow)
        assert list(slow) == []


def test_the_queue_is_bounded_in_bytes_too(redis: Redis) -> None:
    with redis.hub().subscribe("n", maximum_bytes=1000) as slow, redis.hub().subscribe("n") as quick:
        for number in range(5):
            redis.publish("n", str(number) * 400)
        redis.publish("n", "x" * 2000)
        texts(quick, 6)
        assert slow.get() == Gap(3)
        assert [text[0] for text in texts(slow, 2)] == ["3", "4"]
        assert slow.get() == Gap(1)


def test_a_lost_connection_is_made_again_and_every_subscriber_is_told_of_the_gap(redis: Redis) -> None:
    hub = redis.hub()
    with hub.subscribe("a") as one, hub.psubscribe("b*") as other:
        redis.publish("a", "before")
        redis.client_kill_filter(_type="pubsub")
        assert texts(one, 1) == ["before"]
        assert one.get(5) == other.get(5) == Gap()
        redis.publish("a", "after")
        redis.publish("bb", "after")
        assert texts(one, 1) == texts(other, 1) == ["after"]


def test_a_restart_of_the_server_is_a_gap_and_subscribing_meanwhile_is_unavailable(
    redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "PATIENCE_SECONDS", 0.2)
    redis = Redis(url=Secret(redis_server.url))
    hub = redis.hub()
    with hub.subscribe("a") as listener:
        redis_server.stop()
        with pytest.raises(Unavailable):
            hub.subscribe("b")
        with pytest.raises(DeadlineExceeded), green.deadline(0.05):
            hub.subscribe("b")
        redis_server.start()
        assert listener.get(5) == Gap()
        redis.publish("a", "back")
        assert texts(listener, 1) == ["back"]
        assert "1 subscribers of 1 channels" in repr(hub)
    redis.stop()


def test_a_silent_server_is_noticed_by_ping(redis_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("PING_SECONDS", 0.1), ("PATIENCE_SECONDS", 0.2), ("TICK_SECONDS", 0.05)):
        monkeypatch.setattr(Hub, name, seconds)
    with TcpProxy(redis_server.address) as proxy:
        host, port = proxy.address
        redis = Redis(url=Secret(f"redis://{host}:{port}"), socket_seconds=0.3)
        hub = redis.hub()
        with hub.subscribe("a") as listener:
            green.sleep(0.5)  # a quiet channel is no silent server
            assert hub.reconnects == 1
            proxy.blackhole()
            eventually(lambda: not hub.is_connected)
            proxy.pass_through()
            assert listener.get(5) == Gap()
        redis.stop()


def test_a_subscriber_killed_at_any_moment_leaves_nothing(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "TICK_SECONDS", 0.02)
    hub = redis.hub()

    def listen(number: int) -> None:
        with hub.subscribe(f"c{number % 7}", "all") as subscription:
            for _ in subscription:
                pass

    with hub.subscribe("all") as witness:
        for number in range(100):
            victim = green.spawn(listen, number)
            for _ in range(number % 5):
                green.sleep(0)
            redis.publish("all", number)
            victim.kill()
        assert texts(witness, 100) == [str(number) for number in range(100)]
        eventually(lambda: [name for name in redis.pubsub_channels() if name.startswith(b"c")] == [])
        assert "1 subscribers of 1 channels" in repr(hub)


def test_no_message_is_missing_without_a_gap_however_often_the_connection_is_cut(redis: Redis) -> None:
    hub, chance, sent = redis.hub(), random.Random(3), 0
    with hub.subscribe("n", maximum=100_000) as one, hub.psubscribe("n*", maximum=100_000) as other:
        for _ in range(40):
            for _ in range(chance.randrange(30)):
                redis.publish("n", sent)
                sent += 1
            if chance.random() < 0.5:
                redis.client_kill_filter(_type="pubsub")
            green.sleep(chance.random() * 0.03)
        eventually(lambda: hub.is_connected and all(place.confirmed.is_set() for place in hub._places.values()))
        redis.publish("n", sent)
        for listener in (one, other):
            last, is_gap, gaps, heard = -1, False, 0, 0
            while last < sent:
                item = listener.get(5)
                assert item is not None
                if isinstance(item, Gap):
                    is_gap, gaps = True, gaps + 1
                    continue
                number = int(item.data)
                assert number > last and (is_gap or number == last + 1)
                last, is_gap, heard = number, False, heard + 1
            assert gaps > 2 and heard > 50


def test_stopping_ends_every_subscription(redis: Redis) -> None:
    listener = redis.hub().subscribe("a")
    waiting = green.spawn(lambda: list(listener))
    green.sleep(0)
    redis.stop()
    assert waiting.get(timeout=5) == []


def test_a_wait_ends_at_its_time_or_at_the_deadline(redis: Redis) -> None:
    with redis.hub().subscribe("a") as listener:
        assert listener.get(0.01) is None
        with pytest.raises(DeadlineExceeded), green.deadline(0.01):
            listener.get()


def test_a_topic_carries_typed_values_by_key_or_by_pattern(redis: Redis) -> None:
    chat = redis.topic(Entry, "chat:{house}:{room}")
    with chat.subscribe(house=1, room="a*") as one, chat.subscribe(house=1) as house:
        redis.publish("chat:1:a*", b"no JSON")
        chat.publish(Entry("hello"), house=1, room="a*")
        chat.publish(Entry("elsewhere"), house=2, room="a*")
        chat.publish(Entry("next door"), house=1, room="ab")
        assert one.get(5) == house.get(5) == Entry("hello")
        assert house.get(5) == Entry("next door")
        assert (one.unreadable, one.get(0.01)) == (1, None)
    with pytest.raises(TypeError, match="takes"):
        chat.subscribe(colour="red")


@pytest.mark.parametrize("options", [{"maximum": 0}, {"maximum_bytes": 0}, {"overflow": "explode"}])
def test_subscriptions_without_a_bound_are_refused(redis: Redis, options: dict[str, Any]) -> None:
    with pytest.raises(SetupError):
        redis.hub().subscribe("a", **options)
    assert "0 subscribers of 0 channels" in repr(redis.hub())
