"""Consumers on the command line: listed, counted, and told when they do not run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = str(Path(__file__).parents[2])

APP = """
from nucleon import App, Model
from nucleon.amqp import Amqp

app = App("small")
broker = app.use(Amqp(){optional})

class Order(Model):
    id: int

@app.consume("orders", exchange="shop", key=("order.created", "order.changed"))
def on_order(body: Order) -> None: ...

def double(number: int) -> str:
    return f"{{number * 2}}"
"""


def nucleon(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUCLEON_", "AMQP_"))}
    environment = {**kept, "PYTHONPATH": HOUSE}
    command = [sys.executable, "-m", "nucleon", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP.format(optional=", optional=True"))
    return tmp_path


def test_consumers_are_listed_with_the_routes_and_counted_by_check(project: Path) -> None:
    listed = nucleon("routes", folder=project).stdout.splitlines()[-1]
    assert listed.split()[:6] == ["CONSUME", "orders", "<", "shop", "order.created", "order.changed"]
    assert "app.on_order" in listed and "app.py:" in listed
    assert "0 routes, 1 consumer" in nucleon("check", folder=project).stdout


def test_an_optional_broker_that_is_not_set_is_told_in_one_line(project: Path) -> None:
    done = nucleon("run", "app:double", "--number", "4", folder=project)
    assert (done.returncode, done.stdout.strip()) == (0, "8")
    assert done.stderr.strip() == (
        "[amqp] url is not set: the service runs without it; no consumer runs (orders); "
        "set NUCLEON_AMQP__URL, or run `nucleon embedded rabbitmq`"
    )
    assert not (project / ".nucleon" / "embedded.json").exists()  # nothing else was started


def test_a_needed_broker_that_is_not_set_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP.format(optional=""))
    done = nucleon("run", "app:double", "--number", "4", folder=tmp_path)
    assert done.returncode == 1
    assert "[amqp] url (set AMQP_URL or NUCLEON_AMQP__URL, or the file config/development.toml); `nucleon embedded" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_embedded_servers_are_refused_in_production(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nucleon", "embedded", "rabbitmq"]
    environment = {**os.environ, "PYTHONPATH": HOUSE, "NUCLEON_ENV": "production"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "never used in production" in done.stderr
