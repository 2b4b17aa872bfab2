"""The same application on another WSGI server, and other WSGI applications on ours."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from service_fixtures import make_tables

from nucleon import App, Created, Model
from nucleon.testing import LiveServer

Serve = Callable[..., LiveServer]
GUNICORN = ("-m", "gunicorn", "-k", "gevent", "-w", "1", "--no-control-socket", "-b", "127.0.0.1:{port}", "--error-logfile", "-")


@pytest.fixture(params=["nucleon", "gunicorn"])
def either_server(request: pytest.FixtureRequest, serve: Serve, fresh_postgres_dsn: str) -> LiveServer:
    make_tables(fresh_postgres_dsn)
    if request.param == "nucleon":
        return serve("miniature:app", "--workers", "1", dsn=fresh_postgres_dsn)
    return serve("miniature:app", dsn=fresh_postgres_dsn, command=(sys.executable, *GUNICORN, "miniature_wsgi:app"))


def test_our_app_answers_alike_on_both_servers(either_server: LiveServer) -> None:
    assert either_server.get("/").json() == {"message": "hello"}
    created = either_server.post("/names", json={"name": "first"})
    assert (created.status, created.headers["location"]) == (201, "/names/1")
    assert either_server.get("/names/1").json() == {"id": 1, "name": "first"}
    assert list(either_server.get("/numbers/3").lines()) == ['{"n":0}', '{"n":1}', '{"n":2}']
    assert either_server.head("/").headers["content-type"].startswith("application/json")
    assert either_server.get("/nowhere").problem["status"] == 404
    assert either_server.get("/raise").problem["status"] == 500
    assert either_server.stop() == 0


def test_a_flask_app_runs_on_our_server(serve: Serve) -> None:
    service = serve("foreign_flask:app", "--workers", "1")
    assert service.get("/hello/anna?q=a%20b").json() == {"message": "hello anna", "address": "127.0.0.1", "query": "a b"}
    assert service.post("/echo", json={"a": [1, 2]}).json() == {"a": [1, 2]}
    assert service.get("/stream").text.splitlines()[-1] == "line 999"
    assert service.get("/nowhere").status == 404
    assert service.stop() == 0


def test_a_falcon_app_runs_on_our_server(serve: Serve) -> None:
    service = serve("foreign_falcon:app", "--workers", "1")
    assert service.get("/hello/anna?q=1").json() == {"message": "hello anna", "query": "1"}
    assert service.post("/hello/anna", json={"a": None}).json() == {"a": None}
    assert service.get("/nowhere").status == 404
    assert service.stop() == 0


def test_a_django_app_runs_on_our_server(serve: Serve) -> None:
    service = serve("foreign_django:app", "--workers", "1")
    assert service.get("/hello/anna?q=%C3%A9").json() == {"message": "hello anna", "query": "é", "address": "127.0.0.1"}
    form = b'--b\r\nContent-Disposition: form-data; name="title"\r\n\r\nA\r\n' + (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + b"x" * 300_000 + b"\r\n--b--\r\n"
    )
    sent = service.post("/upload", body=form, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert sent.json() == {"title": "A", "bytes": 300_000}
    assert service.get("/numbers").text.splitlines()[-1] == "line 999"
    assert service.get("/itself").text == Path(__file__).with_name("services").joinpath("foreign_django.py").read_text()
    assert service.get("/nowhere").status == 404
    assert service.stop() == 0


def test_a_target_that_is_not_there_is_one_line_and_exit_1(tmp_path: Path) -> None:
    words = (sys.executable, "-m", "nucleon", "serve", "no_such_module:app", "--workers", "1", "--bind", "127.0.0.1:0")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NUCLEON_ENV": "test"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "there is no module 'no_such_module'" in line


class Note(Model):
    text: str


def small_app() -> App:
    app = App("small")

    @app.get("/notes/{name}")
    def read(name: str) -> Note:
        return Note(text=name)

    @app.post("/notes")
    def add(body: Note) -> Created[Note]:
        return Created(body, location="/notes/1")

    app.check()
    return app


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/notes/a", b"", "200"),
        ("HEAD", "/notes/a", b"", "200"),
        ("POST", "/notes", b'{"text": "x"}', "201"),
        ("POST", "/notes", b"{", "400"),
        ("GET", "/nowhere", b"", "404"),
        ("OPTIONS", "/notes/a", b"", "204"),
    ],
)
def test_the_app_keeps_the_letter_of_pep_3333(method: str, path: str, body: bytes, status: str) -> None:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": ""}
    environ["wsgi.input"] = io.BytesIO(body)
    setup_testing_defaults(environ)
    if body:
        environ |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body))}
    seen: list[str] = []

    def start_response(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        seen.append(line)
        return lambda piece: None

    answer = validator(small_app())(environ, start_response)
    try:
        content = b"".join(answer)
    finally:
        answer.close()
    assert seen[0].startswith(status)
    assert method != "HEAD" or content == b""
