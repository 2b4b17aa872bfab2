"""The in-process client: what goes in, what comes out, what is closed."""

import json
from collections.abc import Iterator

import pytest

from nucleon.green import remaining
from nucleon.message import Request, Response
from nucleon.testing import Client


class Echo:
    """The least that a client calls."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def start(self) -> None:
        self.events.append("start")

    def stop(self) -> None:
        self.events.append("stop")

    def respond(self, request: Request) -> Response:
        if request.path == "/stream":
            return Response(self.rows(), content_type="application/x-ndjson", on_close=lambda: self.events.append("closed"))
        if request.path == "/problem":
            return Response(b'{"status": 409, "title": "Conflict"}', 409, content_type="application/problem+json")
        if request.path == "/login":
            return Response(b"", 204, [("Set-Cookie", "session=abc; HttpOnly"), ("Set-Cookie", "old=; Max-Age=0")])
        facts = {
            "method": request.method, "path": request.path, "query": request.query_string, "headers": dict(request.headers),
            "body": request.body().decode(), "remaining": remaining(),
        }  # fmt: skip
        return Response(json.dumps(facts), content_type="application/json", on_close=lambda: self.events.append("closed"))

    def rows(self) -> Iterator[bytes]:
        for number in (1, 2, 3):
            yield b'{"n":%d}\n' % number


@pytest.fixture
def echo() -> Echo:
    return Echo()


def test_the_application_is_started_and_stopped(echo: Echo) -> None:
    with Client(echo):
        assert echo.events == ["start"]
    assert echo.events == ["start", "stop"]


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
def test_every_verb_carries_its_method(echo: Echo, method: str) -> None:
    assert getattr(Client(echo), method)("/x").json()["method"] == method.upper()


def test_a_path_is_decoded_and_a_query_is_not(echo: Echo) -> None:
    seen = Client(echo).get("/caf%C3%A9", query={"q": "a b"}).json()
    assert (seen["path"], seen["query"]) == ("/café", "q=a+b")


def test_json_is_encoded_with_type_and_length(echo: Echo) -> None:
    seen = Client(echo).post("/x", json={"a": 1}).json()
    assert seen["body"] == '{"a":1}'
    assert (seen["headers"]["content-type"], seen["headers"]["content-length"]) == ("application/json", "7")


def test_json_null_is_a_body(echo: Echo) -> None:
    assert Client(echo).post("/x", json=None).json()["body"] == "null"


def test_headers_of_the_call_win_over_those_of_the_client(echo: Echo) -> None:
    client = Client(echo, headers={"Authorization": "one", "X-Other": "kept"})
    seen = client.get("/x", headers={"authorization": "two"}).json()["headers"]
    assert (seen["authorization"], seen["x-other"]) == ("two", "kept")


def test_each_request_has_a_deadline_that_does_not_outlive_it(echo: Echo) -> None:
    assert 0 < Client(echo, deadline_seconds=5).get("/x").json()["remaining"] <= 5
    assert remaining() is None


def test_cookies_are_kept_and_deleted(echo: Echo) -> None:
    client = Client(echo)
    client.cookies["old"] = "1"
    client.get("/login")
    assert client.cookies == {"session": "abc"}
    assert client.get("/x").json()["headers"]["cookie"] == "session=abc"


def test_a_plain_response_is_closed_at_once(echo: Echo) -> None:
    Client(echo).get("/x")
    assert echo.events == ["closed"]


def test_head_has_headers_and_no_body(echo: Echo) -> None:
    answer = Client(echo).head("/x")
    assert (answer.body, answer.headers["Content-Type"]) == (b"", "application/json")


def test_a_stream_is_read_line_by_line_and_closed_at_its_end(echo: Echo) -> None:
    lines = Client(echo).get("/stream").lines()
    assert next(lines) == '{"n":1}'
    assert echo.events == []
    assert list(lines) == ['{"n":2}', '{"n":3}']
    assert echo.events == ["closed"]


def test_a_stream_that_is_left_is_closed_once(echo: Echo) -> None:
    with Client(echo).get("/stream") as answer:
        next(answer.lines())
    answer.close()
    assert echo.events == ["closed"]


def test_a_stream_that_the_test_forgot_is_closed_with_the_client(echo: Echo) -> None:
    with Client(echo) as client:
        client.get("/stream")
    assert echo.events == ["start", "closed", "stop"]


def test_a_problem_is_read_with_its_status(echo: Echo) -> None:
    assert Client(echo).get("/problem").problem["title"] == "Conflict"
    with pytest.raises(AssertionError, match="not a problem"):
        _ = Client(echo).get("/x").problem
