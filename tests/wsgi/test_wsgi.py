"""Both directions of PEP 3333, kept by the standard library's validator."""

import io
from collections.abc import Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from nucleon import wsgi
from nucleon.errors import BadRequest
from nucleon.message import Headers, Request, Response


class Stored:
    """A body that is already here."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(size)


def request(body: bytes = b"", path: str = "/", **fields: str) -> Request:
    headers = Headers({"host": "x:81", **{name.replace("_", "-"): value for name, value in fields.items()}})
    return Request("POST", path, "a=b", headers, Stored(body), client="192.0.2.1")


def test_the_environ_says_what_the_request_said() -> None:
    environ = wsgi.environ_from(request(path="/a b/é", content_type="text/plain", x_a="1"))
    assert environ["PATH_INFO"] == "/a b/Ã©"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["REMOTE_ADDR"]) == ("x", "81", "192.0.2.1")
    assert (environ["CONTENT_TYPE"], environ["HTTP_X_A"], environ["QUERY_STRING"]) == ("text/plain", "1", "a=b")
    assert "HTTP_CONTENT_TYPE" not in environ


@pytest.mark.parametrize(("host", "name", "port"), [("[::1]", "[::1]", "80"), ("[::1]:8000", "[::1]", "8000"), ("x", "x", "80")])
def test_the_server_name_comes_from_the_host(host: str, name: str, port: str) -> None:
    environ = wsgi.environ_from(request(host=host))
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)


def test_the_input_is_read_in_every_way_of_a_file() -> None:
    assert wsgi.Input(Stored(b"ab\ncd\nef")).readlines() == [b"ab\n", b"cd\n", b"ef"]
    assert list(wsgi.Input(Stored(b"ab\n\n"))) == [b"ab\n", b"\n"]
    mixed = wsgi.Input(Stored(b"ab\ncdef\ngh"))
    assert (mixed.readline(2), mixed.readline(), mixed.read(3), mixed.readline(), mixed.read(), mixed.read()) == (
        b"ab", b"\n", b"cde", b"f\n", b"gh", b"",
    )  # fmt: skip


def test_an_application_runs_and_its_iterable_is_closed_once() -> None:
    closed: list[int] = []

    class Pieces:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"one", b"two"])

        def close(self) -> None:
            closed.append(1)

    def application(environ: dict[str, Any], start_response: Any) -> Pieces:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Pieces()

    response = wsgi.run(application, wsgi.environ_from(request()))
    assert b"".join(response.chunks()) == b"onetwo"
    response.close()
    response.close()
    assert closed == [1]


def test_start_response_may_be_replaced_before_the_first_byte_and_raises_after_it() -> None:
    def early(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            raise LookupError("early")
        except LookupError as error:
            start_response("503 Busy", [("X-A", "1")], (type(error), error, error.__traceback__))
        yield b"recovered"

    response = wsgi.run(early, wsgi.environ_from(request()))
    assert (response.status, response.headers) == (503, [("X-A", "1")])

    def late(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"first"
        error = LookupError("late")
        start_response("500 Oh", [], (type(error), error, None))

    pieces = wsgi.run(late, wsgi.environ_from(request())).chunks()
    assert next(pieces) == b"first"
    with pytest.raises(LookupError, match="late"):
        next(pieces)


def test_what_is_written_comes_before_what_is_returned() -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"written ")
        return [b"returned"]

    assert wsgi.run(application, wsgi.environ_from(request())).body == b"written returned"


def test_an_application_that_never_starts_is_an_error() -> None:
    with pytest.raises(AssertionError, match="start_response"):
        wsgi.run(lambda environ, start_response: [], wsgi.environ_from(request()))


def test_a_response_is_sent_through_a_validating_server_and_closed() -> None:
    closed: list[int] = []
    environ: dict[str, Any] = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    started: list[Any] = []

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        response = Response(b"hello", 201, {"X-A": "1"}, content_type="text/plain", on_close=lambda: closed.append(1))
        return wsgi.send(response, start_response, environ["REQUEST_METHOD"])

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started.append((status, headers))
        return lambda data: None

    result = validator(application)(environ, start_response)
    assert b"".join(result) == b"hello"
    result.close()  # type: ignore[attr-defined]
    assert started == [("201 Created", [("X-A", "1"), ("Content-Type", "text/plain"), ("Content-Length", "5")])]
    assert closed == [1]


def test_a_foreign_environ_becomes_a_request_whose_short_body_is_an_error() -> None:
    environ: dict[str, Any] = {"CONTENT_LENGTH": "7", "wsgi.input": io.BytesIO(b"hello"), "PATH_INFO": "/Ã©", "HTTP_X_A": "1"}
    setup_testing_defaults(environ)
    given = wsgi.request_from(environ)
    assert (given.path, given.headers["X-A"]) == ("/é", "1")
    with pytest.raises(BadRequest):
        given.body()
