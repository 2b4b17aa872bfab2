"""The environment's name is fixed at the first read; logs keep to one line."""

import io
import logging

import pytest

from nucleon.config import environment
from nucleon.config.logs import OneLine
from nucleon.errors import SetupError
from nucleon.hooks import request_id


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_fixed", None)


@pytest.mark.usefixtures("unread")
def test_the_first_read_decides() -> None:
    assert environment.environment_name(variables={"NUCLEON_ENV": "test"}) == "test"
    assert environment.environment_name(variables={"NUCLEON_ENV": "production"}) == "test"
    with pytest.raises(SetupError, match="cannot change to 'production'"):
        environment.environment_name("production")


@pytest.mark.usefixtures("unread")
def test_production_is_never_the_default() -> None:
    assert environment.environment_name(variables={}) == "development"


def test_a_log_record_is_one_line_with_the_request_id() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine())
    token = request_id.set("r-1")
    try:
        handler.handle(logging.LogRecord("shop", logging.INFO, "", 1, "a\nb\x1b[2J", (), None))
    finally:
        request_id.reset(token)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("INFO shop a\\nb\\x1b[2J request_id=r-1\n")


def test_a_message_that_names_its_request_does_not_make_the_line_name_it_twice() -> None:
    token = request_id.set("r-1")
    try:
        line = OneLine().format(logging.LogRecord("shop", logging.INFO, "", 1, "GET / failed [request r-1]: no", (), None))
    finally:
        request_id.reset(token)
    assert line.endswith("GET / failed: no request_id=r-1")


def test_for_people_a_traceback_stands_below_its_line_indented() -> None:
    formatter = OneLine(is_for_people=True)
    try:
        raise ValueError("no\n2026-11-23 INFO shop forged\x1b[2J")
    except ValueError as error:
        record = logging.LogRecord("shop", logging.ERROR, "", 1, "a\nb", (), (type(error), error, error.__traceback__))
    first, *trace = formatter.format(record).split("\n")
    assert first.endswith("ERROR shop a\\nb")
    assert trace[0] == "    Traceback (most recent call last):" and trace[-1] == "    2026-11-23 INFO shop forged\\x1b[2J"
    assert all(line.startswith("    ") for line in trace)
    assert "\n" not in OneLine().format(record)
