"""The pytest plugin, in small projects of users."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from nucleon.embedded.servers import lock_at_once
from nucleon.testing import eventually

HOUSE = Path(__file__).parents[2]

APP = """
from nucleon import App

app = App("small")
events = []


@app.on_start
def note_start() -> None:
    events.append("start")


@app.on_stop
def note_stop() -> None:
    events.append("stop")


@app.get("/")
def greet() -> dict[str, str]:
    return {"message": "hello"}
"""


def run_tests(project: Path, tests: str, *, app: str = "", ini: str = "") -> subprocess.CompletedProcess[str]:
    (project / "pyproject.toml").write_text(f'[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n{ini}\n')
    (project / "test_it.py").write_text(tests)
    if app:
        (project / "app.py").write_text(app)
    environment = {**os.environ, "PYTHONPATH": str(HOUSE), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("NUCLEON_ENV", None)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "nucleon.testing.plugin"]
    return subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_a_project_with_an_app_has_a_started_client(tmp_path: Path) -> None:
    tests = """
import socket

def test_greeting(client):
    import app
    assert app.events == ["start"]
    assert client.get("/").json() == {"message": "hello"}
    assert "gevent" in socket.socket.__module__

def test_the_app_was_stopped_in_between(client):
    import app
    assert app.events == ["start", "stop", "start"]
"""
    done = run_tests(tmp_path, tests, app=APP)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_application_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP.replace("app = App", "service = App").replace("@app", "@service"))
    tests = 'def test_greeting(client):\n    assert client.get("/").status == 200\n'
    done = run_tests(tmp_path, tests, ini='nucleon_app = "shop:service"')
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_project_of_others_is_left_alone(tmp_path: Path) -> None:
    tests = "import sys\n\ndef test_nothing_is_patched():\n    assert 'gevent' not in sys.modules\n"
    done = run_tests(tmp_path, tests, app="print = print\n")
    assert done.returncode == 0, done.stdout + done.stderr


def test_asking_for_a_client_without_an_app_says_what_to_write(tmp_path: Path) -> None:
    done = run_tests(tmp_path, "def test_it(client):\n    pass\n")
    assert done.returncode == 1
    assert "nucleon_app" in done.stdout


WITH_REDIS = """
import pytest
from nucleon import App
from nucleon.redis import Redis
from nucleon.testing import Client

app = App("counted")
cache = app.use(Redis())


@app.get("/")
def visit() -> int:
    return cache.incr("visits")
"""

REDIS_TESTS = """
import pytest
from nucleon.redis import Cache, Keeping
from nucleon.testing import Client


@pytest.fixture
def client(fresh_redis):
    from app import app

    app.configure({"redis": fresh_redis.settings})
    with Client(app) as client:
        yield client


@pytest.mark.parametrize("round", [1, 2])
def test_every_test_begins_without_keys(client, fresh_redis, round):
    assert [client.get("/").json() for _ in range(2)] == [1, 2]
    assert fresh_redis.get("visits") == b"2"


def test_time_is_held(fresh_redis, held_clock):
    prices = Cache(fresh_redis, int, "price:{sku}", Keeping(ttl_seconds=60), clock=held_clock)
    prices.put(5, sku="a")
    held_clock.advance(59)
    assert prices.get(sku="a") == 5
    held_clock.advance(2)
    assert prices.get(sku="a") is None
    with pytest.raises(ValueError):
        held_clock.advance(-1)


def test_the_server_is_private(private_valkey):
    private_valkey.stop()
    private_valkey.start()
    print(private_valkey.folder)
"""


def test_redis_of_ones_own_is_empty_for_every_test_and_goes_with_the_run(tmp_path: Path) -> None:
    done = run_tests(tmp_path, REDIS_TESTS, app=WITH_REDIS, ini='addopts = "-s"')
    assert done.returncode == 0, done.stdout + done.stderr
    folder = next(line for line in done.stdout.splitlines() if "nucleon-tests-" in line).strip(".")
    assert not Path(folder).exists()


def test_a_fresh_redis_in_an_unpatched_process_says_what_to_write(tmp_path: Path) -> None:
    done = run_tests(tmp_path, "def test_it(fresh_redis):\n    pass\n")
    assert done.returncode == 1 and "-p nucleon.testing.early" in done.stdout


WITH_DATABASE = """
from nucleon import App
from nucleon.postgres import Postgres

app = App("stored")
db = app.use(Postgres())


@app.get("/")
def greet() -> dict[str, int]:
    return {"value": db.value(int, "select 41 + 1")}
"""


def test_a_database_that_nobody_configured_is_an_embedded_one_and_goes_with_the_run() -> None:
    with tempfile.TemporaryDirectory(prefix="nucleon-tests-") as folder:
        project = Path(folder)
        project.chmod(0o755)  # PostgreSQL runs as somebody else when the tests run as root
        tests = 'def test_value(client):\n    assert client.get("/").json() == {"value": 42}\n'
        done = run_tests(project, tests, app=WITH_DATABASE)
        assert done.returncode == 0, done.stdout + done.stderr
        with (project / ".nucleon" / "test" / ".nucleon" / "supervisor.lock").open("a") as lock:
            eventually(lambda: lock_at_once(lock), within_seconds=20)  # its supervisor holds it until the servers have gone


CONSUMING = """
from nucleon import App, Model
from nucleon.amqp import Amqp

app = App("small")
broker = app.use(Amqp())
seen = []


class Order(Model):
    id: int


@app.post("/orders", status=202)
def place(body: Order) -> None:
    broker.publish("shop", "order.created", body)  # nobody but the consumer declares exchange and queue


@app.consume("orders", exchange="shop", key="order.created", retries=2)
def on_order(body: Order) -> None:
    seen.append(body.id)
    if len(seen) < 3:
        raise RuntimeError("not yet")
"""


def test_an_app_that_consumes_has_a_broker_in_memory_and_drains(tmp_path: Path) -> None:
    tests = """
def test_an_order_is_consumed(client):
    import app
    client.post("/orders", json={"id": 7})
    client.drain()
    assert app.seen == [7, 7, 7]

def test_each_test_has_an_empty_broker(client, broker):
    import app
    client.drain()
    assert (len(app.seen), len(broker.queue("orders.dead"))) == (3, 0)
"""
    done = run_tests(tmp_path, tests, app=CONSUMING)
    assert done.returncode == 0, done.stdout + done.stderr
