"""The application behind the raw requests: it says what it saw, and has a path for every way to answer."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

from nucleon import green

Environ = dict[str, Any]


class EchoApp:
    """A WSGI application that remembers its calls.

    calls: paths in the order in which they began. completed: those whose body was read to its end.
    opened, closed: streamed iterables handed out, and those whose close() ran.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.calls: list[str] = []
        self.completed: list[str] = []
        self.opened = 0
        self.closed = 0

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"]
        self.calls.append(path)
        query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"], encoding="latin-1").items()}
        if path == "/noread":
            return plain(start_response, b"noread")
        answer = ANSWERS.get(path)
        if answer is not None:
            return answer(self, environ, start_response, query)
        body = environ["wsgi.input"].read()
        self.completed.append(path)
        seen = {
            "method": environ["REQUEST_METHOD"],
            "path": path,
            "query": environ["QUERY_STRING"],
            "proto": environ["SERVER_PROTOCOL"],
            "scheme": environ["wsgi.url_scheme"],
            "remote": environ["REMOTE_ADDR"],
            "body": body.decode("latin-1"),
            "env": {name: value for name, value in environ.items() if isinstance(value, str)},
        }
        data = json.dumps(seen).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
        return [data]


class Pieces:
    """A streamed body that tells its application when it is closed."""

    def __init__(self, app: EchoApp, pieces: Iterator[bytes]) -> None:
        self.app, self.pieces = app, pieces
        app.opened += 1

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces

    def close(self) -> None:
        self.app.closed += 1


def plain(start_response: Callable[..., Any], body: bytes, status: str = "200 OK", *fields: tuple[str, str]) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain"), *fields])
    return [body]


def stream(app: EchoApp, _environ: Environ, start_response: Callable[..., Any], query: dict[str, str]) -> Pieces:
    start_response("200 OK", [("Content-Type", "text/plain")])
    piece = b"s" * int(query["size"])
    return Pieces(app, (piece for _ in range(int(query["n"]))))


def big(app: EchoApp, _environ: Environ, start_response: Callable[..., Any], query: dict[str, str]) -> Pieces:
    total = int(query["n"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(total))])
    return Pieces(app, (b"b" * min(65_536, total - at) for at in range(0, total, 65_536)))


def status(_app: EchoApp, _environ: Environ, start_response: Callable[..., Any], query: dict[str, str]) -> list[bytes]:
    return plain(start_response, b"a body", f"{query['c']} Chosen")


def header(_app: EchoApp, _environ: Environ, start_response: Callable[..., Any], query: dict[str, str]) -> list[bytes]:
    return plain(start_response, b"header", "200 OK", (query["name"], query["value"]))


def shorter_claim(_app: EchoApp, _environ: Environ, start_response: Callable[..., Any], _query: dict[str, str]) -> list[bytes]:
    return plain(start_response, b"0123456789", "200 OK", ("Content-Length", "5"))


def longer_claim(_app: EchoApp, _environ: Environ, start_response: Callable[..., Any], _query: dict[str, str]) -> list[bytes]:
    return plain(start_response, b"01234", "200 OK", ("Content-Length", "10"))


def fail(_app: EchoApp, _environ: Environ, _start_response: Callable[..., Any], _query: dict[str, str]) -> list[bytes]:
    raise RuntimeError("before the first byte")


def fail_late(app: EchoApp, _environ: Environ, start_response: Callable[..., Any], _query: dict[str, str]) -> Pieces:
    start_response("200 OK", [("Content-Type", "text/plain")])

    def pieces() -> Iterator[bytes]:
        yield b"first"
        raise RuntimeError("after the first byte")

    return Pieces(app, pieces())


def recover(_app: EchoApp, _environ: Environ, start_response: Callable[..., Any], _query: dict[str, str]) -> list[bytes]:
    import sys

    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        raise RuntimeError("found out late")
    except RuntimeError:
        start_response("503 Service Unavailable", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"recovered"]


def write(_app: EchoApp, _environ: Environ, start_response: Callable[..., Any], _query: dict[str, str]) -> list[bytes]:
    send = start_response("200 OK", [("Content-Type", "text/plain")])
    send(b"written, ")
    return [b"returned"]


def empty(_app: EchoApp, _environ: Environ, start_response: Callable[..., Any], _query: dict[str, str]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return []


def text(_app: EchoApp, _environ: Environ, start_response: Callable[..., Any], _query: dict[str, str]) -> list[Any]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["text is not bytes"]


def read_twice(_app: EchoApp, environ: Environ, start_response: Callable[..., Any], _query: dict[str, str]) -> list[bytes]:
    source = environ["wsgi.input"]
    sizes = {"a": len(source.read()), "b": len(source.read())}
    return plain(start_response, json.dumps(sizes).encode())


def lines(_app: EchoApp, environ: Environ, start_response: Callable[..., Any], _query: dict[str, str]) -> list[bytes]:
    return plain(start_response, json.dumps([len(line) for line in environ["wsgi.input"]]).encode())


def slow(app: EchoApp, _environ: Environ, start_response: Callable[..., Any], query: dict[str, str]) -> list[bytes]:
    green.sleep(float(query["s"]))
    app.completed.append("/slow")
    return plain(start_response, b'{"path": "/slow"}')


ANSWERS = {
    "/stream": stream, "/big": big, "/status": status, "/hdr": header, "/clshort": shorter_claim, "/cllong": longer_claim,
    "/raise": fail, "/raiselate": fail_late, "/excinfo": recover, "/write": write, "/empty": empty, "/strbody": text,
    "/readall": read_twice, "/lines": lines, "/slow": slow,
}  # fmt: skip
