"""`cache=` with a store: the handler runs once, and nobody gets an answer that is another's."""

from collections.abc import Iterator
from typing import Any

import pytest

from nucleon import App, Cookie, Header, Model, NotFound, Request, Response, SetupError, Unauthorized, green
from nucleon.app.storing import LONGEST_PATH, PATHS
from nucleon.redis import Redis
from nucleon.secret import Secret
from nucleon.testing import Client, HeldClock, eventually


class Item(Model):
    id: int
    version: int


class User(Model):
    id: str


class Search(Model):
    q: str = ""
    page: int = 1


def user(authorization: Header[str] = "") -> User:
    if not authorization:
        raise Unauthorized("who are you?")
    return User(authorization)


def test_the_handler_runs_once_until_the_time_is_over_or_the_answer_is_invalidated(redis: Redis) -> None:
    app, clock, calls = App("a"), HeldClock(), []
    answers = redis.answers(ttl_seconds=60, client_seconds=10, clock=clock)

    @app.get("/items/{id}", cache=answers)
    def read(id: int) -> Item:
        calls.append(id)
        return Item(id, len(calls))

    client = Client(app)
    first = client.get("/items/7")
    clock.advance(3)
    again, head = client.get("/items/7?utm=1"), client.head("/items/7")
    assert (again.body, again.headers["etag"], again.headers["content-type"]) == (first.body, '"1"', "application/json")
    assert (again.headers["cache-control"], again.headers["age"], head.headers["age"]) == ("max-age=10", "3", "3")
    assert client.get("/items/7", headers={"if-none-match": '"1"'}).status == 304
    assert client.get("/items/8").json()["id"] == 8
    assert calls == [7, 8]
    answers.invalidate("/items/7")
    assert client.get("/items/7", headers={"if-none-match": '"1"'}).json()["version"] == 3
    answers.invalidation("/items/7")()
    assert client.get("/items/7").json()["version"] == 4
    clock.advance(61)
    assert client.get("/items/7").json()["version"] == 5
    assert "Answers" in repr(answers)


def test_an_answer_that_the_client_has_already_says_of_caching_what_the_whole_one_says(redis: Redis) -> None:
    app = App("a")

    @app.get("/items/{id}", cache=redis.answers(ttl_seconds=60, client_seconds=10))
    def read(id: int) -> Response:
        fields = [("ETag", f'"{id}"'), ("Vary", "Accept"), ("Cache-Control", "max-age=5"), ("Content-Type", "text/plain")]
        return Response(b"seven", 200, fields)

    client = Client(app)
    whole, unchanged = client.get("/items/7"), client.get("/items/7", headers={"if-none-match": '"7"'})
    assert (whole.status, unchanged.status, unchanged.body) == (200, 304, b"")
    assert "content-type" not in unchanged.headers
    for name in ("etag", "vary", "cache-control"):  # RFC 9110 15.4.5
        assert unchanged.headers[name] == whole.headers[name]


def test_a_hundred_at_once_run_the_handler_once(redis: Redis) -> None:
    app, calls, go = App("a"), [], green.Event()

    @app.get("/slow", cache=redis.answers(ttl_seconds=60))
    def slow() -> int:
        calls.append(1)
        go.wait()
        return len(calls)

    asked = [green.spawn(Client(app).get, "/slow") for _ in range(100)]
    eventually(lambda: calls)
    go.set()
    assert {one.get().body for one in asked} == {b"1"}
    assert calls == [1]


def test_only_what_the_handler_reads_tells_answers_apart(redis: Redis) -> None:
    app, calls = App("a"), []

    @app.get("/search", cache=redis.answers(ttl_seconds=60))
    def search(what: Search, language: Header[str] = "en", theme: Cookie[str] = "") -> list[str]:
        calls.append(what.q)
        return [what.q, str(what.page), language, theme]

    client = Client(app)
    assert client.get("/search?q=a&page=2&noise=1").json() == client.get("/search?page=2&q=a").json() == ["a", "2", "en", ""]
    assert len(calls) == 1
    assert client.get("/search?q=a&page=3").json()[1] == "3"
    assert client.get("/search?q=a&page=2", headers={"language": "de"}).json()[2] == "de"
    assert client.get("/search?q=a&page=2", headers={"cookie": "theme=dark"}).json()[3] == "dark"
    assert len(calls) == 4
    assert client.get("/search?q=" + "x" * 5000).json()[0] == "x" * 5000


def test_answers_of_users_are_apart_and_behind_their_auth(redis: Redis) -> None:
    app = App("a")

    @app.get("/mine", auth=user, cache=redis.answers(ttl_seconds=60, by="user", client_seconds=5))
    def mine(user: User) -> str:
        return user.id

    client = Client(app)
    assert [client.get("/mine", headers={"authorization": name}).text for name in ("ann", "ben", "ann")] == ["ann", "ben", "ann"]
    assert client.get("/mine").status == 401
    assert client.get("/mine", headers={"authorization": "ann"}).headers["cache-control"] == "private, max-age=5"


@pytest.mark.parametrize("first", [("bob", "/files/a%20/files/b"), ("", "/files/a%3F&x"), ("%", "/files/a%2520b")])
def test_whoever_chooses_a_name_a_path_or_a_query_gets_nobody_elses_answer(redis: Redis, first: tuple[str, str]) -> None:
    app = App("a")

    @app.get("/files/{name:path}", auth=user, cache=redis.answers(ttl_seconds=60, by="user"))
    def read(name: str, request: Request, user: User) -> list[str]:
        return [user.id, name, request.query_string]

    client = Client(app)
    others = [("bob /files/a", "/files/b"), ("x", "/files/a?x"), ("x", "/files/a?&x"), ("%25", "/files/a%20b"), ("%20", "/files/a")]
    kept = [client.get(path, headers={"authorization": who or "x"}).json() for who, path in [first, *others]]
    assert [one[0] for one in kept] == [who or "x" for who, _ in [first, *others]]
    assert len({tuple(one) for one in kept}) == 6
    assert redis.dbsize() == 6


def test_answers_that_are_for_one_only_are_not_kept(redis: Redis) -> None:
    app, calls = App("a"), []

    @app.get("/{kind}", cache=redis.answers(ttl_seconds=60, stale_if_error_seconds=60))
    def read(kind: str) -> Response:
        calls.append(kind)
        headers = {"cookie": {"Set-Cookie": "a=b"}, "private": {"Cache-Control": "private"}, "vary": {"Vary": "Origin"}}.get(kind, {})
        if kind == "missing":
            raise NotFound("none")
        return Response(str(len(calls)).encode(), 202 if kind == "accepted" else 200, headers)

    client = Client(app)
    for kind in ("cookie", "private", "vary", "missing", "accepted"):
        client.get(f"/{kind}"), client.get(f"/{kind}")
    assert len(calls) == 10
    assert redis.dbsize() == 0


def test_many_who_ask_for_what_is_not_kept_get_answers_of_their_own(redis: Redis) -> None:
    app, calls, go = App("a"), [], green.Event()

    @app.get("/login", cache=redis.answers(ttl_seconds=60))
    def login() -> Response:
        calls.append(1)
        number = len(calls)
        go.wait()
        return Response(b"", headers={"Set-Cookie": f"session={number}"})

    asked = [green.spawn(Client(app).get, "/login") for _ in range(10)]
    eventually(lambda: calls)
    go.set()
    assert len({one.get().headers["set-cookie"] for one in asked}) == 10


def test_an_old_answer_stands_in_for_a_failure_of_ours_only(redis: Redis) -> None:
    app, clock, failing = App("a"), HeldClock(), [False]

    @app.get("/x", cache=redis.answers(ttl_seconds=1, stale_if_error_seconds=60, clock=clock))
    def read() -> int:
        if failing[0]:
            raise ValueError("a bug")
        return 1

    client = Client(app)
    client.get("/x")
    clock.advance(2)
    failing[0] = True
    assert client.get("/x").status == 200
    clock.advance(60)
    assert client.get("/x").status == 500


def test_a_worker_may_keep_copies_of_its_own_for_a_moment(redis: Redis) -> None:
    app, clock = App("a"), HeldClock()
    answers = redis.answers(ttl_seconds=60, local_seconds=1, maximum_local=3, clock=clock)

    @app.get("/items/{id}", cache=answers)
    def read(id: int) -> int:
        return id

    client = Client(app)
    for number in range(10):
        client.get(f"/items/{number}")
    assert "3 copies here" in repr(answers)
    before = redis.calls
    assert client.get("/items/9").text == "9" and redis.calls == before
    clock.advance(1)
    assert client.get("/items/9").text == "9" and redis.calls == before + 1


def test_any_number_of_paths_and_long_ones_are_kept_apart(redis: Redis) -> None:
    app, calls = App("a"), []
    answers = redis.answers(ttl_seconds=60, local_seconds=60)

    @app.get("/{name}", cache=answers)
    def read(name: str) -> str:
        calls.append(name)
        return name

    client = Client(app)
    names = [f"n{number}" for number in range(PATHS + 5)] + ["x" * (LONGEST_PATH + 9), "x" * (LONGEST_PATH + 8)]
    for _ in range(2):
        for name in names[-3:] + names[:3]:
            assert client.get(f"/{name}").text == name
    assert len(calls) == 6
    assert [client.get(f"/{name}").text for name in names] == names
    assert calls.count("n0") == calls.count(names[-1]) == 1
    assert "given without asking" in repr(answers)


def test_with_redis_away_routes_say_so_or_work_as_they_were_told(redis_server: Any) -> None:
    redis, app = Redis(url=Secret(redis_server.url)), App("a")

    @app.get("/strict", cache=redis.answers(ttl_seconds=60))
    def strict() -> int:
        return 1

    @app.get("/loose", cache=redis.answers(ttl_seconds=60, when_away="load"))
    def loose() -> int:
        return 1

    redis_server.stop()
    assert (Client(app).get("/strict").status, Client(app).get("/loose").status) == (503, 200)
    redis.stop()


def test_routes_whose_answers_may_differ_have_to_say_whose_they_are(redis: Redis) -> None:
    app, answers = App("a"), redis.answers(ttl_seconds=60)

    @app.get("/auth", auth=user, cache=answers)
    def with_auth() -> int:
        return 1

    @app.get("/request", cache=answers)
    def with_request(request: Request) -> int:
        return 1

    @app.get("/stream", cache=answers)
    def stream() -> Iterator[int]:
        yield 1

    @app.get("/user", cache=redis.answers(ttl_seconds=60, by="user"))
    def by_user() -> int:
        return 1

    with pytest.raises(SetupError) as caught:
        app.check()
    assert [line.partition(": ")[2][:40] for line in str(caught.value).splitlines()] == [
        "cache=: this handler has auth, so its an",
        "cache=: this handler or what it is given",
        "cache= keeps the answer, and a stream ca",
        'cache=: by="user", and this route has no',
    ]


@pytest.mark.parametrize("options", [{"by": "moon"}, {"client_seconds": -1}, {"stale_seconds": 1}, {"maximum_local": 0}])
def test_stores_that_make_no_sense_are_refused(redis: Redis, options: dict[str, Any]) -> None:
    with pytest.raises(SetupError):
        redis.answers(ttl_seconds=60, **options)
