"""Providers, groups, hooks, mounts, scopes, and what start-up refuses."""

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nucleon import App, Forbidden, Header, Model, NotFound, Request, Response, SetupError, hooks
from nucleon.green import remaining
from nucleon.message import Headers


class Session:
    def __init__(self) -> None:
        self.log: list[str] = []


class User(Model):
    name: str


class Wrong:
    """Nothing provides it."""


def ask(app: App, method: str, target: str, body: bytes = b"", **headers: str) -> Response:
    path, _, query = target.partition("?")
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.respond(Request(method, path, query, Headers(fields), io.BytesIO(body)))


def test_a_provider_cleans_up_before_the_first_byte_and_after_a_stream() -> None:
    app, session = App("a"), Session()

    @app.provide
    def opened() -> Iterator[Session]:
        session.log.append("open")
        try:
            yield session
            session.log.append("commit")
        except NotFound:
            session.log.append("roll back")
            raise

    @app.get("/good")
    def good(session: Session) -> None:
        session.log.append("work")

    @app.get("/bad")
    def bad(session: Session) -> None:
        raise NotFound()

    @app.get("/stream")
    def stream(session: Session) -> Iterator[int]:
        yield 1
        session.log.append("last")

    assert ask(app, "GET", "/good").status == 204
    assert session.log == ["open", "work", "commit"]
    session.log.clear()
    assert ask(app, "GET", "/bad").status == 404
    assert session.log == ["open", "roll back"]
    session.log.clear()
    answer = ask(app, "GET", "/stream")
    assert list(answer.chunks()) == [b"1\n"]
    answer.close()
    assert session.log == ["open", "last", "commit"]


def test_auth_comes_before_the_body_and_gives_the_handler_its_user() -> None:
    app = App("a")

    def current_user(authorization: Header[str] = "") -> User:
        if not authorization:
            raise Forbidden("who are you?")
        return User(authorization)

    group = app.group("/v1", auth=current_user, tags=["one"])

    @group.post("/me")
    def me(user: User, body: list[dict[str, int]]) -> User:
        return user

    @group.get("/open", auth=None)
    def open_door() -> None: ...

    assert ask(app, "POST", "/v1/me", b"{").status == 403
    answer = ask(app, "POST", "/v1/me", b"[]", authorization="ann", content_type="application/json")
    assert answer.body == b'{"name":"ann"}'
    assert ask(app, "GET", "/v1/open").status == 204
    assert app.routes()[0].tags == ("one",) and app.routes()[0].pattern == "/v1/me"


def test_hooks_run_around_every_request() -> None:
    app, seen = App("a"), []

    @app.around
    def stamp(request: Request) -> Iterator[Response]:
        response: Response = yield  # type: ignore[misc]
        seen.append((request.path, response.status))
        response.headers.append(("X-Stamp", "1"))

    @app.get("/")
    def root() -> None: ...

    assert ask(app, "GET", "/").header("X-Stamp") == "1"
    assert ask(app, "GET", "/nowhere").header("X-Stamp") == "1"
    assert seen == [("/", 204), ("/nowhere", 404)]


def test_a_crash_is_logged_under_the_request_id_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    app = App("a")

    @app.get("/")
    def crash() -> None:
        raise ValueError("the password is 123")

    with caplog.at_level(logging.ERROR):
        answer = ask(app, "GET", "/", x_request_id="r-1")
    assert answer.status == 500 and b"123" not in answer.body and b"r-1" in answer.body  # type: ignore[operator]
    assert "the password is 123" in caplog.text and "r-1" in caplog.text


def test_a_request_that_ended_is_told() -> None:
    app, told = App("a"), []

    @app.get("/x/{id}")
    def read(id: int) -> None: ...

    def listen(*, method: str, route: str, status: int, seconds: float) -> None:
        told.append((method, route, status))

    hooks.request_ended.add(listen)
    try:
        ask(app, "GET", "/x/1")
    finally:
        hooks.request_ended.remove(listen)
    assert told == [("GET", "/x/{id}", 204)]


def test_a_route_has_its_deadline() -> None:
    app, left = App("a"), []

    @app.get("/", deadline=5)
    def root() -> None:
        left.append(remaining())

    ask(app, "GET", "/")
    assert left[0] is not None and 4 < left[0] <= 5
    assert remaining() is None


def test_the_client_may_ask_for_less_time() -> None:
    app, left = App("a"), []

    @app.get("/", deadline=50)
    def root() -> None:
        left.append(remaining())

    assert ask(app, "GET", "/", request_timeout="7").status == 204
    assert left[0] is not None and 6 < left[0] <= 7
    assert ask(app, "GET", "/", request_timeout="soon").status == 400
    assert ask(app, "GET", "/", request_timeout="0").status == 504


def test_if_match_guards_a_change() -> None:
    app = App("a")

    @app.put("/")
    def change(request: Request) -> None:
        request.expect_version(3)

    assert ask(app, "PUT", "/").status == 204
    assert ask(app, "PUT", "/", if_match='"2", "3"').status == 204
    assert ask(app, "PUT", "/", if_match='"2"').status == 412


def test_a_scope_calls_business_functions() -> None:
    app, ended = App("a"), []

    @app.provide
    def session() -> Iterator[Session]:
        yield Session()
        ended.append(True)

    def count(session: Session, days: int, unit: str = "d") -> tuple[str, int, str]:
        return type(session).__name__, days, unit

    with app.scope() as scope:
        assert scope.call(count, days=3) == ("Session", 3, "d")
        assert scope.call(count, Session(), 4, unit="h") == ("Session", 4, "h")
        with pytest.raises(TypeError, match="parameter days was not given"):
            scope.call(count)
    assert ended == [True]


def test_start_and_stop_hooks_run_in_order() -> None:
    app, seen = App("a"), []
    app.on_start(lambda: seen.append("start"))
    app.on_stop(lambda: seen.append("stop 1"))
    app.on_stop(lambda: seen.append("stop 2"))
    app.start()
    app.stop()
    assert seen == ["start", "stop 2", "stop 1"]


def test_a_wsgi_application_is_mounted() -> None:
    app = App("a")

    def legacy(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode()]

    @app.get("/old/new")
    def new() -> str:
        return "new"

    app.mount("/old", legacy)
    assert ask(app, "GET", "/old/x").body == b"/old|/x"
    assert ask(app, "GET", "/old/new").body == b"new"
    assert ask(app, "GET", "/older").status == 404


def test_the_app_is_a_wsgi_callable() -> None:
    app, started = App("a"), []

    @app.get("/")
    def root() -> str:
        return "hello"

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": "", "wsgi.input": io.BytesIO(), "wsgi.url_scheme": "http",
               "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": "x", "SERVER_PORT": "80"}  # fmt: skip
    body = app(environ, lambda status, headers, info=None: started.append(status))
    assert b"".join(body) == b"hello" and started == ["200 OK"]
    getattr(body, "close", lambda: None)()


def test_start_up_reports_every_fault_with_its_place() -> None:
    app = App("a")

    @app.get("/a/{id}")
    def first(id: int) -> None: ...

    @app.get("/a/{name}")
    def second(name: str) -> None: ...

    @app.post("/b")
    def two_bodies(one: User, two: User) -> None: ...

    @app.get("/c")
    def unknown(thing: Wrong) -> None: ...

    @app.get("/d")
    def undefined(thing: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    @app.get("/e/{id}")
    def forgets() -> None: ...

    @app.get("/h/{thing}")
    def unknown_in_path(thing: Wrong) -> None: ...

    @app.get("/f")
    def no_schema():  # type: ignore[no-untyped-def]
        ...

    @app.get("/g")
    def wrong_schema() -> Wrong: ...

    with pytest.raises(SetupError) as caught:
        app.check()
    lines = str(caught.value).splitlines()
    assert all(__file__.rpartition("/")[2] in line for line in lines)
    for name in ("second", "two_bodies", "unknown", "unknown_in_path", "undefined", "forgets", "no_schema", "wrong_schema"):
        assert any(f"{name} (" in line for line in lines), (name, lines)


def test_an_unknown_extra_is_refused() -> None:
    with pytest.raises(TypeError, match="there is no extra colour"):
        App("a").get("/", colour=5)  # type: ignore[call-arg]
