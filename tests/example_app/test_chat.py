"""Rooms: everybody hears everything, a slow listener harms nobody."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from example_app import chat
from nucleon.testing import Client


def entries(answer: Any) -> Iterator[dict[str, Any]]:
    """What a listener receives, parsed from server-sent events."""
    return (json.loads(line.removeprefix("data: ")) for line in answer.lines() if line.startswith("data: "))


def said(client: Client, room: str, text: str) -> None:
    answer = client.post(f"/rooms/{room}/messages", json={"author": "ann", "text": text})
    assert answer.status == 202, answer.text


@pytest.fixture
def relayed(client: Client) -> Client:
    """The client, once the relay has subscribed."""
    from example_app.service import cache
    from nucleon.testing.waiting import eventually

    eventually(lambda: cache.pubsub_numpat() == 1)
    return client


def test_everybody_in_the_room_hears_a_message(relayed: Client) -> None:
    with relayed.get("/rooms/hall/messages") as one, relayed.get("/rooms/hall/messages") as other:
        heard = [entries(one), entries(other)]
        assert [next(listener)["kind"] for listener in heard] == ["joined", "joined"]
        said(relayed, "hall", "hello")
        for listener in heard:
            entry = next(listener)
            assert (entry["kind"], entry["author"], entry["text"]) == ("message", "ann", "hello")
    assert not chat.listeners


def test_rooms_are_apart(relayed: Client) -> None:
    with relayed.get("/rooms/a/messages") as answer:
        heard = entries(answer)
        next(heard)
        said(relayed, "b", "not for a")
        said(relayed, "a", "for a")
        assert next(heard)["text"] == "for a"


def test_a_slow_listener_is_dropped_and_told_so(relayed: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "QUEUE_LENGTH", 3)
    with relayed.get("/rooms/hall/messages") as slow, relayed.get("/rooms/hall/messages") as quick:
        heard, kept = entries(slow), entries(quick)
        next(heard), next(kept)
        for number in range(5):
            said(relayed, "hall", str(number))
            assert next(kept)["text"] == str(number)
        rest = [(entry["kind"], entry["text"]) for entry in heard]
    assert rest == [("message", "0"), ("message", "1"), ("message", "2"), ("dropped", "")]


def test_a_silent_room_sends_signs_of_life(relayed: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "KEEP_ALIVE_SECONDS", 0.02)
    with relayed.get("/rooms/hall/messages") as answer:
        heard = entries(answer)
        assert [next(heard)["kind"] for _ in range(3)] == ["joined", "idle", "idle"]


def test_an_empty_message_is_refused(client: Client) -> None:
    assert client.post("/rooms/hall/messages", json={"author": "ann", "text": ""}).problem["status"] == 422


def test_the_rooms_open_again_when_redis_comes_back(client: Client, redis_server: Any) -> None:
    from example_app import service
    from nucleon.secret import Secret
    from nucleon.testing.waiting import eventually

    chat.close_rooms()
    service.cache.configure(service.cache.Settings(url=Secret(redis_server.url)), "redis")
    chat.open_rooms()
    eventually(lambda: service.cache.pubsub_numpat() == 1)
    redis_server.stop()
    assert client.post("/rooms/hall/messages", json={"author": "ann", "text": "x"}).problem["status"] == 503
    redis_server.start()
    eventually(lambda: service.cache.pubsub_numpat() == 1)
    with client.get("/rooms/hall/messages") as answer:
        heard = entries(answer)
        next(heard)
        said(client, "hall", "back")
        assert next(heard)["text"] == "back"
