"""What the log says of an answer that is a problem."""

import logging

import pytest

from nucleon import App, Conflict, Problem, Unavailable
from nucleon.message import Request


def test_a_client_fault_is_one_log_line_with_the_request_id_and_no_value_of_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    app = App("log")

    @app.get("/taken")
    def taken() -> None:
        raise Conflict("this name is taken") from ValueError("Key (name)=(planted) already exists")

    request = Request("GET", "/taken")
    with caplog.at_level(logging.INFO, logger="nucleon.app"):
        assert app.respond(request).status == 409
    [line] = [record.getMessage() for record in caplog.records]
    assert line == f"GET /taken answered 409 [request {request.id}]: this name is taken (cause: ValueError)"


def test_a_fault_of_the_program_is_an_error_that_says_where_it_was_raised(caplog: pytest.LogCaptureFixture) -> None:
    app = App("log")

    @app.get("/wrong")
    def count_things() -> None:
        raise Problem("the database refused the statement") from ValueError("no such column")

    request = Request("GET", "/wrong")
    assert app.respond(request).status == 500
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "the database refused the statement (cause: ValueError: no such column)" in record.getMessage()
    assert "count_things" in caplog.text and __file__ in caplog.text


def test_a_server_that_is_away_is_a_warning_of_one_line(caplog: pytest.LogCaptureFixture) -> None:
    app = App("log")

    @app.get("/away")
    def away() -> None:
        raise Unavailable("the database is away")

    assert app.respond(Request("GET", "/away")).status == 503
    [record] = caplog.records
    assert record.levelno == logging.WARNING and record.exc_info is None
