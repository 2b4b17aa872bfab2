"""`nucleon dev` survives a broken application and serves the mended one, whatever still runs in the old one."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

APP = "from nucleon import App\n\napp = App('small')\n"


STREAM = """
import time
from collections.abc import Iterator

@app.get("/ticks")
def ticks() -> Iterator[int]:
    yield 1
    time.sleep(3600)
"""
LineWith = Callable[[str], str]


@pytest.fixture
def line_with(tmp_path: Path) -> Iterator[LineWith]:
    """`nucleon dev` in the test's folder, as what waits for a line of its standard error."""
    (tmp_path / "app.py").write_text(APP + STREAM)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUCLEON_")}
    command = [sys.executable, "-m", "nucleon", "dev", "--bind", "127.0.0.1:0"]
    house = {**kept, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, cwd=tmp_path, env=house, stderr=subprocess.PIPE, text=True) as served:
        assert served.stderr is not None
        lines = iter(served.stderr.readline, "")

        def line_with(text: str) -> str:
            found = next((line for line in lines if text in line), None)
            assert found is not None, f"no {text!r}"
            return found

        try:
            yield line_with
        finally:
            served.send_signal(signal.SIGTERM)
            served.stderr.read()
        assert served.wait(20) == 0


def test_a_broken_app_is_told_and_the_mended_one_is_served(line_with: LineWith, tmp_path: Path) -> None:
    line_with("serving app:app")
    (tmp_path / "app.py").write_text(APP + "x = (\n")
    line_with("cannot import app")
    (tmp_path / "app.py").write_text(APP)
    line_with("serving app:app")


def test_a_stream_that_somebody_listens_to_does_not_hold_up_the_new_code(line_with: LineWith, tmp_path: Path) -> None:
    port = re.search(r":(\d+)", line_with("serving app:app").partition("http")[2])
    assert port is not None
    with socket.create_connection(("127.0.0.1", int(port[1])), timeout=10) as listener:
        listener.sendall(b"GET /ticks HTTP/1.1\r\nHost: a\r\n\r\n")
        assert listener.recv(1000).startswith(b"HTTP/1.1 200")
        (tmp_path / "app.py").write_text(APP)
        line_with("requests still run after 2 s: cut off")
        line_with("serving app:app")
