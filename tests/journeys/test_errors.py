"""Every error that leaves a service: its status, application/problem+json, the request id, and the cause in the log."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from service_fixtures import make_tables

from nucleon.testing import LiveServer, eventually

ORDER = {"customer": "c-17", "lines": [{"sku": "A-1", "quantity": 2}]}


def pointers(problem: dict[str, Any]) -> set[str]:
    return {fault["pointer"] for fault in problem["errors"]}


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nowhere", {}, 404),
        ("DELETE", "/orders", {}, 405),
        ("POST", "/orders", {"body": '{"customer": ', "headers": {"Content-Type": "application/json"}}, 400),
        ("POST", "/orders", {"body": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}, 400),
        ("POST", "/orders", {"json": {**ORDER, "surprise": 1}}, 422),
        ("POST", "/orders", {"json": [1, 2]}, 422),
        ("POST", "/orders", {"body": "customer=c-17", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 415),
        ("POST", "/orders", {"body": b"x" * (2 << 20), "headers": {"Content-Type": "application/json"}}, 413),
        ("GET", "/orders/1", {"headers": {"Accept": "text/html"}}, 406),
        ("GET", "/orders/one", {}, 422),
        ("GET", "/raise", {}, 500),
        ("GET", "/conflict", {}, 409),
        ("GET", "/names/999", {}, 404),
    ],
)
def test_an_error_is_a_problem_with_its_status_and_request_id(
    miniature: LiveServer, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    answer = miniature.request(method, path, **options)
    assert answer.status == status, answer.text
    assert answer.problem["title"]
    assert answer.problem["request_id"] == answer.headers["x-request-id"]


def test_a_request_id_of_the_client_is_kept(miniature: LiveServer) -> None:
    answer = miniature.get("/nowhere", headers={"X-Request-Id": "from-the-client-1"})
    assert answer.problem["request_id"] == "from-the-client-1"


def test_a_wrong_method_is_told_the_right_ones(miniature: LiveServer) -> None:
    allowed = {method.strip() for method in miniature.delete("/orders/1").headers["allow"].split(",")}
    assert allowed == {"GET", "HEAD", "OPTIONS"}


def test_all_faults_of_a_body_come_at_once(miniature: LiveServer) -> None:
    body = {"customer": "", "lines": [{"sku": 5, "quantity": 0}, {"quantity": "two"}], "surprise": True}
    answer = miniature.post("/orders", json=body)
    assert answer.status == 422
    assert pointers(answer.problem) >= {"/customer", "/lines/0/sku", "/lines/0/quantity", "/lines/1/quantity", "/surprise"}


def test_a_handler_that_raises_tells_the_log_and_not_the_client(miniature: LiveServer) -> None:
    answer = miniature.get("/raise")
    assert answer.status == 500
    assert "only the log" not in answer.text
    assert "Traceback" not in answer.text
    line = miniature.wait_for_log("the cause that only the log may tell")
    assert answer.problem["request_id"] in line


@pytest.mark.parametrize(("name", "status"), [("taken", 409), ("", 422)])
def test_a_constraint_of_the_database_is_a_problem(miniature: LiveServer, name: str, status: int) -> None:
    assert miniature.post("/names", json={"name": "taken"}).status == 201
    answer = miniature.post("/names", json={"name": name})
    assert answer.status == status, answer.text
    assert answer.problem["request_id"]


def test_a_broken_request_is_a_problem_of_the_server_itself(miniature: LiveServer) -> None:
    answer = miniature.get("/", headers={"Host": "two words"})
    assert answer.status == 400
    assert answer.problem["status"] == 400


def test_the_service_answers_503_while_the_database_is_down_and_recovers(serve: Callable[..., LiveServer], postgres_server: Any) -> None:
    make_tables(postgres_server.dsn)
    service = serve("miniature:app", "--workers", "1", dsn=postgres_server.dsn)
    assert service.post("/names", json={"name": "before"}).status == 201

    postgres_server.stop()
    answer = service.get("/names/1")
    assert answer.status == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.problem["request_id"] == answer.headers["x-request-id"]
    service.wait_for_log(answer.problem["request_id"])
    assert service.get("/").status == 200

    postgres_server.start()
    assert eventually(lambda: service.get("/names/1").status == 200, within_seconds=15)
    with closing(psycopg2.connect(postgres_server.dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("select count(*) from names")
        assert cursor.fetchone() == (1,)
