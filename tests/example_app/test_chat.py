"""Rooms: everybody hears everything, a slow listener harms nobody."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from example_app import chat
from example_app.service import cache
from nucleon.redis import Redis
from nucleon.secret import Secret
from nucleon.testing import Client, LiveServer


def entries(answer: Any) -> Iterator[dict[str, Any]]:
    """What a listener receives, parsed from server-sent events."""
    return (json.loads(line.removeprefix("data: ")) for line in answer.lines() if line.startswith("data: "))


def said(client: Client, room: str, text: str) -> None:
    answer = client.post(f"/rooms/{room}/messages", json={"author": "ann", "text": text})
    assert answer.status == 202, answer.text


def test_everybody_in_the_room_hears_a_message(client: Client) -> None:
    with client.get("/rooms/hall/messages") as one, client.get("/rooms/hall/messages") as other:
        heard = [entries(one), entries(other)]
        assert [next(listener)["kind"] for listener in heard] == ["joined", "joined"]
        said(client, "hall", "hello")
        for listener in heard:
            entry = next(listener)
            assert (entry["kind"], entry["author"], entry["text"]) == ("message", "ann", "hello")
    assert "0 subscribers" in repr(cache.hub())


def test_rooms_are_apart(client: Client) -> None:
    with client.get("/rooms/a/messages") as answer:
        heard = entries(answer)
        next(heard)
        said(client, "b", "not for a")
        said(client, "a", "for a")
        assert next(heard)["text"] == "for a"


def test_a_slow_listener_is_dropped_and_told_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "QUEUE_LENGTH", 3)
    with client.get("/rooms/hall/messages") as slow, client.get("/rooms/hall/messages") as quick:
        heard, kept = entries(slow), entries(quick)
        next(heard), next(kept)
        for number in range(5):
            said(client, "hall", str(number))
            assert next(kept)["text"] == str(number)
        rest = [(entry["kind"], entry["text"]) for entry in heard]
    assert rest == [("message", "0"), ("message", "1"), ("message", "2"), ("dropped", "")]


def test_a_silent_room_sends_signs_of_life(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "KEEP_ALIVE_SECONDS", 0.02)
    with client.get("/rooms/hall/messages") as answer:
        heard = entries(answer)
        assert [next(heard)["kind"] for _ in range(3)] == ["joined", "idle", "idle"]


def test_an_empty_message_is_refused(client: Client) -> None:
    assert client.post("/rooms/hall/messages", json={"author": "ann", "text": ""}).problem["status"] == 422


def test_a_listener_hears_of_the_gap_when_redis_comes_back(client: Client, redis_server: Any) -> None:
    cache.stop()
    cache.configure(cache.Settings(url=Secret(redis_server.url)), "redis")
    with client.get("/rooms/hall/messages") as answer:
        heard = entries(answer)
        assert next(heard)["kind"] == "joined"
        redis_server.stop()
        assert client.post("/rooms/hall/messages", json={"author": "ann", "text": "x"}).problem["status"] == 503
        redis_server.start()
        assert next(heard)["kind"] == "gap"
        said(client, "hall", "back")
        assert next(heard)["text"] == "back"


def test_people_meet_across_workers(fresh_postgres_dsn: str, redis_url: str) -> None:
    settings = {"NUCLEON_TEST_DATABASE_URL": fresh_postgres_dsn, "NUCLEON_TEST_REDIS_URL": redis_url}
    settings["NUCLEON_TEST_PROCESS__DRAIN_SECONDS"] = "0.5"  # listeners who have left are noticed by the next sign of life only
    with LiveServer("example_app", "--workers", "2", environment=settings) as server, ExitStack() as stack:
        answers = [stack.enter_context(server.get("/rooms/hall/messages")) for _ in range(12)]
        listeners = [entries(answer) for answer in answers]
        assert [next(listener)["kind"] for listener in listeners] == ["joined"] * 12
        for number in range(3):
            assert server.post("/rooms/hall/messages", json={"author": "ann", "text": str(number)}).status == 202
        for listener in listeners:
            assert [next(listener)["text"] for _ in range(3)] == ["0", "1", "2"]
        asked = Redis(url=Secret(redis_url))
        assert len([one for one in asked.client_list() if int(one["sub"])]) <= 2, "one connection for each worker"
        asked.stop()
