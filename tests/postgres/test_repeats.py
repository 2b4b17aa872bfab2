"""Statements that one request repeats: told with their place in development, counted everywhere, refused by a test's budget."""

import logging
from collections.abc import Iterator

import pytest

from nucleon import App, green
from nucleon.hooks import query_ended, request_ended, statement_repeated
from nucleon.postgres import Postgres
from nucleon.postgres.repeats import Repeats, counted
from nucleon.testing import Client

HERE = __file__
READ = "select id, name from items where id = %s"


@pytest.fixture
def app(db: Postgres, fresh_postgres_dsn: str) -> App:
    app = App("repeating")
    database = app.use(Postgres(dsn=fresh_postgres_dsn))
    database.many("insert into items (name) values %s", [(str(number),) for number in range(6)])

    def read_one(id: int) -> dict:
        return database.one(dict, READ, id)

    @app.get("/items")
    def items(n: int = 6) -> list[dict]:
        with database.transaction():
            return [read_one(id) for id in database.values(int, "select id from items order by id limit %s", n)]

    @app.get("/items.ndjson")
    def export() -> Iterator[dict]:
        for row in database.stream(dict, "select id from items order by id", batch_rows=1):
            yield read_one(row["id"])

    @app.get("/greenlets")
    def greenlets() -> int:
        return sum(one.get()["id"] for one in [green.spawn(read_one, id) for id in range(1, 4)])

    return app


@pytest.fixture
def client(app: App) -> Iterator[Client]:
    with Client(app) as client:
        yield client


@pytest.fixture
def watch() -> Iterator[Repeats]:
    watching = Repeats({"postgres": 5}, with_places=True)
    yield watching
    watching.stop()
    assert watching._on_query not in query_ended.listeners
    assert watching._on_request not in request_ended.listeners


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING and "one statement" in record.getMessage()
    ]


def test_a_repeated_statement_is_one_log_line_with_count_and_place(
    client: Client, watch: Repeats, caplog: pytest.LogCaptureFixture
) -> None:
    client.get("/items")
    (line,) = lines(caplog)
    assert line.startswith(f"GET /items ran one statement 6 times, at {HERE}:")
    assert f": {READ} (one for all: `where id = any(%s)`" in line
    number = int(line.split(f"{HERE}:")[1].partition(":")[0])
    with open(HERE) as source:
        assert "database.one(dict, READ, id)" in source.read().splitlines()[number - 1]


def test_fewer_times_and_other_requests_are_not_told(client: Client, watch: Repeats, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(6):
        client.get("/items", query={"n": 4})
    assert lines(caplog) == []
    assert not watch.counted


def test_work_outside_a_request_may_repeat_itself(app: App, watch: Repeats, caplog: pytest.LogCaptureFixture) -> None:
    database = app.resources["postgres"]
    for _ in range(10):
        database.value("select 1")
    database.stop()
    assert not watch.counted


def test_repetitions_are_counted_and_spoken_once_for_each_request(client: Client) -> None:
    heard: list[tuple[str, str, int]] = []

    def hear(*, resource: str, statement: str, count: int) -> None:
        heard.append((resource, statement, count))

    watching = Repeats({"postgres": 5}, with_places=False)
    statement_repeated.add(hear)
    try:
        client.get("/items")
        client.get("/items")
        assert counted() == {READ: 2}
    finally:
        statement_repeated.remove(hear)
        watching.stop()
    assert counted() == {}
    assert heard == [("postgres", READ, 5)] * 2
    assert watching.counted == {READ: 2}


def test_a_stream_that_queries_for_each_row_is_told_too(client: Client, watch: Repeats, caplog: pytest.LogCaptureFixture) -> None:
    assert len(list(client.get("/items.ndjson").lines())) == 6
    (line,) = lines(caplog)
    assert line.startswith("after its answer began, a request ran one statement 5 times, at ")


def test_a_request_within_its_budget_passes(client: Client) -> None:
    assert client.get("/items", query={"n": 2}, max_queries=3).status == 200
    assert client.get("/nowhere", max_queries=0).status == 404


def test_a_request_over_its_budget_fails_with_its_statements(client: Client) -> None:
    with pytest.raises(AssertionError) as failure:
        client.get("/items", query={"n": 3}, max_queries=3)
    (head, *listed) = str(failure.value).splitlines()
    assert head == "GET /items?n=3 made 4 queries, at most 3 were allowed:"
    assert [line.split("   (")[0] for line in listed] == [
        "  1. select id from items order by id limit %s",
        *[f"  {number}. {READ}" for number in (2, 3, 4)],
    ]
    assert all(HERE in line for line in listed)


def test_greenlets_and_streams_count_for_the_request_that_began_them(client: Client) -> None:
    with pytest.raises(AssertionError, match="made 3 queries, at most 2"):
        client.get("/greenlets", max_queries=2)
    answer = client.get("/items.ndjson", max_queries=7)
    assert len(list(answer.lines())) == 6
    with pytest.raises(AssertionError, match="made 7 queries, at most 6"):
        list(client.get("/items.ndjson", max_queries=6).lines())
