"""Consumers in real processes over a real RabbitMQ: stops, kills, start-up errors, and the order flow of the example under crashes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

import psycopg2
import pytest
from private_servers import PrivatePostgres, PrivateRabbit
from service_fixtures import HOUSE, SERVICES

from nucleon import green
from nucleon.amqp import Amqp
from nucleon.testing import LiveServer, eventually

Serve = Callable[..., LiveServer]


@pytest.fixture
def broker(amqp_url: str) -> Iterator[Amqp]:
    with Amqp(url=amqp_url) as broker:
        yield broker


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    path = tmp_path / "diary"
    path.touch()
    return path


def noted(diary: Path, what: str) -> list[int]:
    return [int(line.split()[1]) for line in diary.read_text().splitlines() if line.startswith(what)]


def nucleon(*words: str, **variables: str) -> "subprocess.Popen[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUCLEON_")}
    environment = {**kept, "PYTHONPATH": f"{HOUSE}{os.pathsep}{SERVICES}", **variables}
    words = (sys.executable, "-m", "nucleon", *words, "--env", "test")
    return subprocess.Popen(words, cwd=SERVICES, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def put_work(broker: Amqp, count: int, seconds: float) -> None:
    broker.queue("work", kind="quorum").put_many({"id": number, "seconds": seconds} for number in range(count))


def waiting(broker: Amqp) -> list[int]:
    """Take what is left in the queue."""
    left = []
    with broker.queue("work", kind="quorum").consumer(200) as messages, suppress(Empty):
        while True:
            with messages.get(timeout=1) as message:
                left.append(message.json()["id"])
    return left


def test_a_hundred_handlers_at_sigterm_finish_and_the_rest_goes_back(serve: Serve, broker: Amqp, amqp_url: str, diary: Path) -> None:
    service = serve("consuming:app", "--workers", "1", NUCLEON_TEST_AMQP__URL=amqp_url, DIARY=str(diary))
    put_work(broker, 160, seconds=1.5)
    eventually(lambda: len(noted(diary, "begun")) >= 100, within_seconds=20)
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    done = noted(diary, "done")
    assert len(done) >= 100
    assert sorted(done) == sorted(noted(diary, "begun"))
    eventually(lambda: broker.queue("work", kind="quorum").qsize() == 160 - len(done))
    assert sorted(done + waiting(broker)) == list(range(160))


def test_a_killed_worker_is_replaced_and_its_messages_come_again(serve: Serve, broker: Amqp, amqp_url: str, diary: Path) -> None:
    service = serve("consuming:app", "--workers", "1", NUCLEON_TEST_AMQP__URL=amqp_url, DIARY=str(diary))
    put_work(broker, 20, seconds=0.5)
    eventually(lambda: len(noted(diary, "begun")) >= 20, within_seconds=20)
    os.kill(service.worker_pids()[0], signal.SIGKILL)
    eventually(lambda: sorted(set(noted(diary, "done"))) == list(range(20)), within_seconds=30)
    assert len(noted(diary, "begun")) == 40
    assert service.stop() == 0


def test_the_worker_command_consumes_without_http_and_stops_clean(broker: Amqp, amqp_url: str, diary: Path) -> None:
    put_work(broker, 3, seconds=0)
    with nucleon("worker", "consuming:app", NUCLEON_TEST_AMQP__URL=amqp_url, DIARY=str(diary)) as worker:
        try:
            eventually(lambda: len(noted(diary, "done")) == 3, within_seconds=20)
        finally:
            worker.terminate()
            _out, errors = worker.communicate(timeout=30)
    assert worker.returncode == 0
    assert "consuming work, mail, poison for consuming:app (test, 1 worker)" in errors


def test_serve_leaves_the_consumers_to_the_worker_when_told_so(serve: Serve, broker: Amqp, amqp_url: str, diary: Path) -> None:
    settings = {"NUCLEON_TEST_AMQP__URL": amqp_url, "NUCLEON_TEST_APP__CONSUME": "false", "DIARY": str(diary)}
    service = serve("consuming:app", "--workers", "1", **settings)
    put_work(broker, 1, seconds=0)
    assert service.get("/pid").status == 200
    assert (broker.queue("work", kind="quorum").qsize(), diary.read_text()) == (1, "")


def test_poison_messages_are_tried_with_growing_pauses_and_given_up_with_the_reason(
    serve: Serve, broker: Amqp, amqp_url: str, diary: Path
) -> None:
    service = serve("consuming:app", "--workers", "1", NUCLEON_TEST_AMQP__URL=amqp_url, DIARY=str(diary))
    broker.queue("poison", kind="quorum").put_many({"id": number} for number in range(20))
    dead = broker.queue("poison.dead", kind="quorum")
    letters = [dead.get(20) for _ in range(20)]
    assert {(letter.headers["x-nucleon-reason"], letter.headers["x-nucleon-tries"]) for letter in letters} == {("RuntimeError", 3)}
    tries: dict[int, list[float]] = {}
    for _word, number, moment in (line.split() for line in diary.read_text().splitlines()):
        tries.setdefault(int(number), []).append(float(moment))
    assert {len(moments) for moments in tries.values()} == {3} and len(tries) == 20  # a hot loop would try without end
    assert all(second - first >= 0.3 and third - second >= 1.2 for first, second, third in tries.values())
    assert service.stop() == 0


def test_a_service_that_only_publishes_makes_the_queues_that_a_worker_will_consume(
    serve: Serve, broker: Amqp, amqp_url: str, diary: Path
) -> None:
    """On a broker that has never seen a worker, the first request is taken, not 404 or lost."""
    settings = {"NUCLEON_TEST_AMQP__URL": amqp_url, "DIARY": str(diary)}
    service = serve("consuming:app", "--workers", "1", **settings, NUCLEON_TEST_APP__CONSUME="false")
    assert service.post("/work", json={"id": 7}).status == 202
    counts = broker.queue("mail", kind="quorum", declare=False).declare()
    assert (counts.message_count, counts.consumer_count, diary.read_text()) == (1, 0, "")
    with nucleon("worker", "consuming:app", **settings) as worker:
        try:
            eventually(lambda: noted(diary, "mailed") == [7], within_seconds=20)
        finally:
            worker.terminate()
            worker.communicate(timeout=30)
    assert (worker.returncode, service.stop()) == (0, 0)


@pytest.mark.parametrize(
    ("target", "variables", "said"),
    [
        ("consuming:app", {}, "[amqp] url (set NUCLEON_TEST_AMQP__URL, or the file config/test.toml); `nucleon embedded rabbitmq` runs"),
        ("plain_wsgi:app", {"NUCLEON_TEST_AMQP__URL": "amqp://x"}, "plain_wsgi:app consumes nothing: write @app.consume(...)"),
    ],
)
def test_what_a_worker_lacks_is_said_in_one_line(target: str, variables: dict[str, str], said: str, diary: Path) -> None:
    with nucleon("worker", target, DIARY=str(diary), **variables) as worker:
        _out, errors = worker.communicate(timeout=60)
    assert worker.returncode == 1
    assert said in errors and "Traceback" not in errors


class Customers:
    """Several greenlets that place orders until told to stop, and remember which were confirmed."""

    def __init__(self, service: LiveServer, count: int) -> None:
        self.confirmed: list[int] = []
        self.refused = 0
        self._service = service
        self._is_over = False
        self._greenlets = [green.spawn(self._order) for _ in range(count)]

    def _order(self) -> None:
        body = {"customer": "c-17", "lines": [{"sku": "A-1", "quantity": 1}]}
        while not self._is_over:
            with suppress(OSError):
                answer = self._service.post("/orders", json=body)
                if answer.status == 201:
                    self.confirmed.append(answer.json()["id"])
                    green.sleep(0.1)  # the shelf holds 1000: a fast machine must not empty it
                    continue
            self.refused += 1
            green.sleep(0.05)

    def stop(self) -> None:
        self._is_over = True
        for one in self._greenlets:
            one.get(timeout=30)


@pytest.fixture
def careful_postgres(postgres_template: Path) -> Iterator[PrivatePostgres]:
    """A server whose commits survive its crash, which those of the other tests do not."""
    server = PrivatePostgres(copy_of=postgres_template, synchronous_commit="on")
    server.start()
    yield server
    server.close()


def rows(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()
    finally:
        connection.close()


def test_no_confirmed_order_is_lost_or_served_twice_when_everything_is_killed(
    serve: Serve, careful_postgres: PrivatePostgres, redis_url: str, amqp_url: str, rabbitmq: PrivateRabbit
) -> None:
    servers = {"NUCLEON_TEST_REDIS__URL": redis_url, "NUCLEON_TEST_AMQP__URL": amqp_url, "NUCLEON_TEST_AMQP__RETRY_MAXIMUM_SECONDS": "0.3"}
    service = serve("example_app", "--workers", "2", dsn=careful_postgres.dsn, **servers)
    customers = Customers(service, 4)

    def more() -> None:
        wanted = len(customers.confirmed) + 25
        eventually(lambda: len(customers.confirmed) >= wanted, within_seconds=60)

    try:
        more()
        rows(careful_postgres.dsn, "update products set stock = stock + 1000000 where sku = 'A-1' returning stock")  # or it sells out
        rabbitmq.sync()
        os.kill(service.worker_pids()[0], signal.SIGKILL)
        more()
        careful_postgres.kill()
        careful_postgres.start()
        more()
        rabbitmq.kill()
        more()
        rabbitmq.start()
        more()
    finally:
        customers.stop()
    (orders,) = rows(careful_postgres.dsn, "select count(*) from orders")[0]
    told = "select count(*), count(distinct order_id) from notifications"
    eventually(lambda: rows(careful_postgres.dsn, told)[0] == (orders, orders), within_seconds=60)
    assert rows(careful_postgres.dsn, "select stock from products where sku = 'A-1'") == [(1001000 - orders,)]
    kept = {id for (id,) in rows(careful_postgres.dsn, "select order_id from reservations where outcome = 'reserved'")}
    assert set(customers.confirmed) <= kept and len(kept) == orders
    print(f"{len(customers.confirmed)} confirmed, {orders} stored, {customers.refused} refused, {len(kept)} reserved once, none lost")
    assert service.stop() == 0
