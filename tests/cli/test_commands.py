"""The command line as a new user meets it: real processes, exit codes, one line for each error."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

COMMANDS = ["new", "dev", "serve", "worker", "routes", "shell", "run", "config", "check", "db", "embedded"]
HOUSE = str(Path(__file__).parents[2])

APP = """
from nucleon import App

app = App("small")

@app.get("/hello/{name}")
def hello(name: str) -> dict[str, str]:
    return {"hello": name}

def double(number: int, loud: bool = False) -> str:
    return f"{number * 2}{'!' if loud else ''}"
"""


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUCLEON_")}
    return {**kept, "PYTHONPATH": HOUSE}


def nucleon(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "nucleon", *words]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(command: str, tmp_path: Path) -> None:
    done = nucleon(command, "--help", folder=tmp_path)
    assert done.returncode == 0
    assert "Example:" in done.stdout


def test_the_version_tells_what_is_in_use(tmp_path: Path) -> None:
    said = nucleon("--version", folder=tmp_path).stdout
    assert said.startswith("nucleon ")
    assert "Python" in said and "gevent" in said and "compiled" in said


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("serv",), 2, "serv"),
        (("serve", "--workers", "0"), 2, "--workers"),
        (("routes", "nowhere:app"), 1, "there is no module 'nowhere'"),
        (("routes", "app:other"), 1, "has no 'other'"),
        (("serve", "--bind", "nonsense"), 1, "HOST:PORT"),
        (("check", "--env", "producton"), 1, "did you mean 'production'"),
        (("run", "double", "--numbr", "1"), 2, "it takes --number, --loud"),
        (("run", "double", "--number", "x"), 2, "--number"),
        (("run", "double"), 2, "parameter number was not given"),
        (("new", "Bad Name"), 1, "cannot name a service"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(words: tuple[str, ...], code: int, said: str, project: Path) -> None:
    done = nucleon(*words, folder=project)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert said in done.stderr


def test_a_module_that_fails_is_named_with_its_line(project: Path) -> None:
    (project / "app.py").write_text("x = 1\ny = x / 0\n")
    done = nucleon("check", folder=project)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr and "app.py, line 2" in done.stderr


def test_a_tool_that_is_refused_is_named_with_the_line_of_the_module(project: Path) -> None:
    tools = "from nucleon.redis import Redis\ncache = Redis()\none = cache.of(int, 'a', ttl_seconds=5)\n"
    (project / "app.py").write_text(tools + "two = cache.of(int, 'b', ttl_seconds='5')\n")
    done = nucleon("check", folder=project)
    assert done.returncode == 1
    assert "ttl_seconds must be a number" in done.stderr and "app.py, line 4)" in done.stderr


def test_a_route_that_is_refused_is_named_where_it_is_written(project: Path) -> None:
    (project / "app.py").write_text(APP + "\n@app.get('/b', limit=3)\ndef b() -> int: ...\n")
    said = nucleon("check", folder=project).stderr
    line = (project / "app.py").read_text().splitlines().index("@app.get('/b', limit=3)") + 1
    assert "there is no extra limit" in said and f"app.py, line {line})" in said


def test_routes_check_config_and_run_work_without_a_server(project: Path) -> None:
    assert "/hello/{name}" in nucleon("routes", folder=project).stdout
    assert "is fine" in nucleon("check", folder=project).stdout
    assert "listen.bind" in nucleon("config", folder=project).stdout
    assert nucleon("run", "double", "--number", "21", "--loud", folder=project).stdout == "42!\n"


def test_check_finds_files_of_tls_that_cannot_be_used(project: Path) -> None:
    (project / "config").mkdir()
    (project / "config" / "default.toml").write_text('[server]\ntls_certificate = "/nowhere/cert.pem"\n')
    done = nucleon("check", folder=project)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "[server] tls_certificate /nowhere/cert.pem" in done.stderr and "no such file" in done.stderr


def test_a_wsgi_callable_is_served_until_sigterm(tmp_path: Path) -> None:
    (tmp_path / "foreign.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [('Content-Type', 'text/plain')])\n    return [b'hi']\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "nucleon", "serve", "foreign:app", "--bind", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) as served:
        assert served.stderr is not None
        try:
            assert served.stderr.readline().startswith(f"serving foreign:app on http://127.0.0.1:{port} ")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert answer.read() == b"hi"
        finally:
            served.send_signal(signal.SIGTERM)
            served.stderr.read()
        assert served.wait(20) == 0


def test_a_new_service_passes_its_own_tests(tmp_path: Path) -> None:
    assert nucleon("new", "shop", folder=tmp_path).returncode == 0
    again = nucleon("new", "shop", folder=tmp_path)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path / "shop", env=environment(), capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
