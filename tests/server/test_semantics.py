"""What RFC 9110 demands of an application of ours, over the wire: methods, their fields, and challenges."""

import socket
from collections.abc import Iterator

import pytest
from hosting import Hosted, hosted
from raw_client import Answer, answers_from

from nucleon import App, Unauthorized


class Unticketed(Unauthorized):
    """A subclass names its own scheme."""

    challenge = 'Ticket realm="shop"'


@pytest.fixture(scope="module")
def shop() -> Iterator[Hosted]:
    app = App("shop")

    @app.get("/items")
    def items() -> list[str]:
        return ["a lamp"]

    @app.route("PURGE", "/cache")
    def purge() -> None:
        return None

    @app.get("/mine")
    def mine() -> None:
        raise Unauthorized("who are you?")

    @app.get("/theirs")
    def theirs() -> None:
        raise Unauthorized("who are you?", headers={"www-authenticate": "Basic"})

    @app.get("/tickets")
    def tickets() -> None:
        raise Unticketed("a ticket, please")

    app.configure({})
    with hosted(app) as served:
        yield served


def answered(served: Hosted, first: str) -> Answer:
    with socket.create_connection(served.address, timeout=5) as connection:
        connection.sendall(f"{first} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        wire = b"".join(iter(lambda: connection.recv(65_536), b""))
    answers, rest = answers_from(wire, ended=True, head=first.startswith("HEAD "))
    assert (len(answers), rest) == (1, b"")
    return answers[0]


@pytest.mark.parametrize("method", ["POST", "DELETE", "TRACE", "PURGE"])
def test_a_method_that_the_path_does_not_take_is_answered_with_those_that_it_takes(shop: Hosted, method: str) -> None:
    answer = answered(shop, f"{method} /items")  # RFC 9110 15.5.6: a 405 MUST have Allow
    assert (answer.status, answer.values("allow")) == (405, ["GET, HEAD, OPTIONS"])


@pytest.mark.parametrize("method", ["BREW", "get", "Get"])
def test_a_method_that_nobody_knows_is_not_implemented(shop: Hosted, method: str) -> None:
    assert answered(shop, f"{method} /items").status == 501  # RFC 9110 9.1, 15.6.2: methods are case-sensitive


def test_options_of_the_server_and_of_a_path_are_answered(shop: Hosted) -> None:
    assert answered(shop, "OPTIONS *").status == 204  # RFC 9110 9.3.7
    answer = answered(shop, "OPTIONS /items")
    assert (answer.status, answer.values("allow")) == (204, ["GET, HEAD, OPTIONS"])


def test_head_has_the_fields_of_get_and_no_content(shop: Hosted) -> None:
    got, head = answered(shop, "GET /items"), answered(shop, "HEAD /items")  # RFC 9110 9.3.2
    assert (head.status, head.body) == (200, b"")
    assert [field for field in head.fields if field[0] != "date"] == [field for field in got.fields if field[0] != "date"]


@pytest.mark.parametrize(
    ("path", "challenge"),
    [("/mine", "Bearer"), ("/theirs", "Basic"), ("/tickets", 'Ticket realm="shop"')],
    ids=["plain", "given", "subclass"],
)
def test_an_answer_of_401_says_how_to_log_in(shop: Hosted, path: str, challenge: str) -> None:
    answer = answered(shop, f"GET {path}")  # RFC 9110 11.6.1: at least one challenge
    assert (answer.status, answer.values("www-authenticate")) == (401, [challenge])
