"""What the log says of an answer that is a problem."""

import logging

import pytest

from nucleon import App, Conflict
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
