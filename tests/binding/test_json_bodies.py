"""A body that is no JSON at all is told in the client's terms."""

import pytest

from nucleon import App, Model
from nucleon.testing import Client


class Item(Model):
    name: str


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "a JSON body is needed, and the request has none"),
        (b'{"name": "\xff"}', "the body is not UTF-8 (RFC 8259 section 8.1)"),
        (b'{"name": ', "the body is not JSON: Input data was truncated"),
        (b'{"name": x}', "the body is not JSON: JSON is malformed: invalid character (byte 9)"),
    ],
)
def test_what_is_no_json_says_what_it_is(body: bytes, said: str) -> None:
    app = App("shop")

    @app.post("/items")
    def add_item(body: Item) -> None: ...

    with Client(app) as client:
        answer = client.post("/items", headers={"Content-Type": "application/json"}, body=body)
    assert (answer.status, answer.problem["detail"]) == (400, said)
