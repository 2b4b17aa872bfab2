"""`limits=` with rates: who is counted together, what the answers say, what happens when Redis is away."""

import json
from typing import Any

import pytest

from nucleon import App, Header, Limits, Model, NotFound, SetupError, Unauthorized
from nucleon.redis import Redis
from nucleon.secret import Secret
from nucleon.testing import Client, HeldClock


class User(Model):
    id: str


class Nameless(Model):
    scopes: list[str]


def user(authorization: Header[str] = "") -> User:
    if not authorization:
        raise Unauthorized("who are you?")
    return User(authorization)


def test_answers_say_what_is_left_and_the_429_when_to_come_back(redis: Redis) -> None:
    app, clock = App("a"), HeldClock()

    @app.get("/{id}", limits=redis.rate("api", 2, per_seconds=60, clock=clock))
    def read(id: int) -> int:
        if id == 0:
            raise NotFound("no zero")
        return id

    client = Client(app)
    first, missing, refused = client.get("/1"), client.get("/0"), client.get("/1")
    assert first.headers["RateLimit-Policy"] == '"api";q=2;w=60'
    assert first.headers["RateLimit"] == '"api";r=1;t=30'
    assert (missing.status, missing.headers["RateLimit"]) == (404, '"api";r=0;t=60')
    assert (refused.status, refused.headers["RateLimit"], refused.headers["Retry-After"]) == (429, '"api";r=0;t=60', "30")
    assert refused.problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert refused.problem["violated-policies"] == ["api"]
    clock.advance(30)
    assert client.get("/1").status == 200


def test_groups_hand_rates_down_others_come_on_top_and_one_of_the_same_name_replaces(redis: Redis) -> None:
    app = App("a", limits=redis.rate("all", 5, per_seconds=60))
    group = app.group("/g", limits=[Limits(body_bytes=10), redis.rate("group", 3, per_seconds=60)])

    @group.post("/more", limits=redis.rate("group", 9, per_seconds=60))
    def more(body: bytes) -> int:
        return len(body)

    @group.get("/free", limits=None)
    def free() -> int:
        return 1

    client = Client(app)
    answer = client.post("/g/more", body=b"12345")
    assert answer.headers["RateLimit-Policy"] == '"all";q=5;w=60, "group";q=9;w=60'
    assert answer.headers["RateLimit"].startswith('"all";r=4;')
    assert client.post("/g/more", body=b"x" * 11).status == 413
    assert "RateLimit" not in client.get("/g/free").headers


def test_users_are_counted_apart_after_auth(redis: Redis) -> None:
    app = App("a")

    @app.get("/mine", auth=user, limits=redis.rate("user", 2, per_seconds=60, by="user"))
    def mine(user: User) -> str:
        return user.id

    client = Client(app)
    assert [client.get("/mine").status for _ in range(3)] == [401] * 3
    assert [client.get("/mine", headers={"authorization": "ann"}).status for _ in range(3)] == [200, 200, 429]
    assert client.get("/mine", headers={"authorization": "ben"}).headers["RateLimit"].startswith('"user";r=1')


def test_functions_of_the_request_and_routes_choose_the_key(redis: Redis) -> None:
    app = App("a")
    rate = redis.rate("key", 1, per_seconds=60, by=lambda request: request.headers.get("x-key"), each_route=True)
    group = app.group("/g", limits=rate)

    @group.get("/a")
    def a() -> int:
        return 1

    @group.get("/b")
    def b() -> int:
        return 1

    client = Client(app)
    assert [client.get("/g/a", headers={"x-key": "k"}).status for _ in range(2)] == [200, 429]
    assert client.get("/g/b", headers={"x-key": "k"}).status == 200
    unlimited = [client.get("/g/a") for _ in range(3)]
    assert [one.status for one in unlimited] == [200] * 3 and "RateLimit" not in unlimited[0].headers


def test_by_user_without_users_is_a_fault_at_start_up_and_a_user_without_id_is_ours(redis: Redis) -> None:
    app, rate = App("a"), redis.rate("user", 1, per_seconds=60, by="user")

    @app.get("/x", limits=rate)
    def x() -> None: ...

    with pytest.raises(SetupError, match=r'x \(.*the rate user counts by="user"'):
        app.check()
    with pytest.raises(TypeError, match="limits= takes"):
        app.get("/y", limits=7)  # type: ignore[arg-type]

    def nameless() -> Nameless:
        return Nameless([])

    other = App("b")

    @other.get("/x", auth=nameless, limits=rate)
    def y() -> None: ...

    assert Client(other).get("/x").status == 500


def test_with_redis_away_routes_stay_open_or_close_as_their_rate_says(redis_server: Any) -> None:
    redis, app = Redis(url=Secret(redis_server.url)), App("a")

    @app.get("/open", limits=redis.rate("open", 1, per_seconds=60))
    def always() -> int:
        return 1

    @app.get("/closed", limits=redis.rate("closed", 1, per_seconds=60, when_away="closed"))
    def never() -> int:
        return 1

    redis_server.stop()
    client = Client(app)
    assert [client.get("/open").status for _ in range(2)] == [200, 200]
    answer = client.get("/closed")
    assert (answer.status, json.loads(answer.body)["title"]) == (503, "Service Unavailable")
    redis.stop()
