"""Values of every type, in and out; and nothing that was not declared."""

from __future__ import annotations

import datetime as dt
import enum
import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, TypedDict

import pytest

from nucleon import App, Cookie, Event, Events, Form, Header, Limits, Model, Named, Query, Request, Response
from nucleon.message import Headers


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Everything(Model):
    at: dt.datetime
    day: dt.date
    amount: Decimal
    key: uuid.UUID
    data: bytes
    colour: Colour
    big: int
    ratio: float


class Public(Model):
    name: str


class Internal(Public):
    password: str = "secret"


class Team(Model):
    members: list[Public]
    lead: Public | None = None


@dataclass
class Point:
    x: int
    y: int = 0


class Login(TypedDict):
    user: str
    days: int


def ask(app: App, method: str, target: str, body: bytes = b"", **headers: str) -> Response:
    path, _, query = target.partition("?")
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.respond(Request(method, path, query, Headers(fields), io.BytesIO(body)))


def document(response: Response) -> Any:
    return json.loads(b"".join(response.chunks()))


JSON = "application/json"
WHOLE: dict[str, Any] = {
    "at": "2024-05-01T10:00:00.123456+02:00", "day": "2024-05-01", "amount": "10.10", "key": "123e4567-e89b-12d3-a456-426614174000",
    "data": "AAH/", "colour": "blue", "big": 9223372036854775807, "ratio": 0.5,
}  # fmt: skip


def test_every_type_comes_back_as_it_went_in() -> None:
    app = App("a")

    @app.post("/")
    def echo(body: Everything) -> Everything:
        return body

    assert document(ask(app, "POST", "/", json.dumps(WHOLE).encode(), content_type=JSON)) == WHOLE


def test_not_a_number_is_refused_both_ways() -> None:
    app = App("a")

    @app.get("/out")
    def out() -> list[float]:
        return [1.0, float("nan")]

    @app.get("/in")
    def take(ratio: float) -> None: ...

    assert ask(app, "GET", "/out").status == 500
    assert document(ask(app, "GET", "/in?ratio=nan"))["errors"][0]["message"] == "Expected a finite number"
    body = json.dumps({**WHOLE, "amount": "NaN"}).encode()

    @app.post("/")
    def echo(body: Everything) -> None: ...

    assert document(ask(app, "POST", "/", body, content_type=JSON))["errors"][0]["pointer"] == "/amount"


def test_only_the_declared_schema_leaves() -> None:
    app = App("a")

    @app.get("/one")
    def one() -> Public:
        return Internal("x")

    @app.get("/team")
    def team() -> Team:
        return Team([Internal("x")], lead=Internal("y"))

    @app.get("/list")
    def many() -> list[Public]:
        return [Internal("x"), Public("y")]

    @app.get("/dict")
    def from_dict() -> Login:
        return {"user": "x", "days": 1, "password": "secret"}  # type: ignore[typeddict-unknown-key]

    @app.get("/stream")
    def stream() -> Iterator[Public]:
        yield Internal("x")

    @app.get("/point")
    def point() -> Point:
        made = Point(1)
        made.secret = "secret"  # type: ignore[attr-defined]
        return made

    assert document(ask(app, "GET", "/point")) == {"x": 1, "y": 0}
    for path in ("/one", "/team", "/list", "/dict", "/stream"):
        answer = ask(app, "GET", path)
        assert answer.status == 200
        assert b"secret" not in b"".join(answer.chunks())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/int/7", 7), ("/int/x", None), ("/uuid/123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        ("/day/2024-02-29", "2024-02-29"), ("/day/2024-02-30", None), ("/colour/red", "red"), ("/colour/green", None),
        ("/rest/a/b/c", "a/b/c"), ("/float/1.5", 1.5), ("/float/inf", None),
    ],
)  # fmt: skip
def test_path_types(path: str, value: Any) -> None:
    app = App("a")

    @app.get("/int/{value}")
    def of_int(value: int) -> int:
        return value

    @app.get("/uuid/{value}")
    def of_uuid(value: uuid.UUID) -> uuid.UUID:
        return value

    @app.get("/day/{value}")
    def of_day(value: dt.date) -> dt.date:
        return value

    @app.get("/colour/{value}")
    def of_colour(value: Colour) -> Colour:
        return value

    @app.get("/rest/{value:path}")
    def of_rest(value: str) -> dict[str, str]:
        return {"value": value}

    @app.get("/float/{value}")
    def of_float(value: float) -> float:
        return value

    answer = ask(app, "GET", path)
    if value is None:
        assert answer.status == 422
    else:
        found = document(answer)
        assert (found["value"] if isinstance(found, dict) else found) == value


def test_every_place_of_a_request() -> None:
    app = App("a")

    @app.get("/")
    def read(
        point: Point,
        tags: Query[list[int]],
        user_agent: Header[str],
        sid: Cookie[str],
        key: Annotated[Header[str], Named("X-Key")] = "none",
        *,
        request: Request,
    ) -> dict[str, Any]:
        return {"point": {"x": point.x, "y": point.y}, "tags": tags, "agent": user_agent, "sid": sid, "key": key, "method": request.method}

    answer = ask(app, "GET", "/?x=1&tags=1&tags=2", user_agent="curl", cookie="sid=abc; b=c")
    assert document(answer) == {"point": {"x": 1, "y": 0}, "tags": [1, 2], "agent": "curl", "sid": "abc", "key": "none", "method": "GET"}
    faults = document(ask(app, "GET", "/?x=a"))["errors"]
    assert [(one["location"], one["pointer"]) for one in faults] == [
        ("query", "/x"), ("query", "/tags"), ("header", "/User-Agent"), ("cookie", "/sid"),
    ]  # fmt: skip


def test_forms_and_raw_bodies() -> None:
    app = App("a")

    @app.post("/login")
    def login(form: Form[Login]) -> Login:
        return form

    @app.put("/raw", limits=Limits(body_bytes=4))
    def raw(body: bytes) -> bytes:
        return body[::-1]

    kind = "application/x-www-form-urlencoded"
    assert document(ask(app, "POST", "/login", b"user=a%20b&days=3", content_type=kind)) == {"user": "a b", "days": 3}
    assert ask(app, "POST", "/login", b"user=a&days=x", content_type=kind).status == 422
    assert ask(app, "POST", "/login", b"{}", content_type=JSON).status == 415
    assert ask(app, "PUT", "/raw", b"abc").body == b"cba"
    assert ask(app, "PUT", "/raw", b"abcde").status == 413


def test_events_are_sent_as_events() -> None:
    app = App("a")

    @app.get("/")
    def feed() -> Events[Event[Public]]:
        yield Event(Public("x"), name="joined", id="1")

    assert b"".join(ask(app, "GET", "/").chunks()) == b'event: joined\nid: 1\ndata: {"name":"x"}\n\n'
