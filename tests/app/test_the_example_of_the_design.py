"""The example of the design, on a resource that keeps its rows in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Annotated, Any

import pytest

from nucleon import App, Created, Len, Min, Model, NotFound, Page, PageQuery, Patch, Request, Response
from nucleon.message import Headers


class NewItem(Model):
    name: Annotated[str, Len(1, 80)]
    price: Annotated[float, Min(0)]


class Item(NewItem):
    id: int
    version: int


class Shelf:
    """A resource without a server."""

    kind = "shelf"

    def __init__(self) -> None:
        self.items: dict[int, Item] = {}

    def start(self) -> None: ...

    def stop(self) -> None: ...


def shop() -> App:
    app = App("shop")
    shelf = app.use(Shelf())

    @app.get("/items/{id}")
    def read_item(id: int) -> Item:
        if id not in shelf.items:
            raise NotFound(f"no item {id}")
        return shelf.items[id]

    @app.post("/items")
    def add_item(body: NewItem, shelf: Shelf) -> Created[Item]:
        item = Item(name=body.name, price=body.price, id=len(shelf.items) + 1, version=1)
        shelf.items[item.id] = item
        return Created(item)

    @app.patch("/items/{id}")
    def edit_item(id: int, body: Patch[NewItem]) -> Item:
        shelf.items[id] = body.applied_to(shelf.items[id])  # type: ignore[arg-type, assignment]
        return shelf.items[id]

    @app.get("/items")
    def list_items(page: PageQuery, q: str = "") -> Page[Item]:
        after = page.after(int, 0)
        rows = [item for item in shelf.items.values() if item.id > after and q in item.name]
        return Page.of(rows[: page.fetch], page, key=lambda item: item.id)

    @app.get("/items.ndjson")
    def export_items() -> Iterator[Item]:
        yield from shelf.items.values()

    @app.delete("/items/{id}")
    def remove_item(id: int) -> None:
        del shelf.items[id]

    return app


def ask(app: App, method: str, target: str, body: Any = None, **headers: str) -> Response:
    path, _, query = target.partition("?")
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    if body is not None:
        fields.setdefault("content-type", "application/json")
    return app.respond(Request(method, path, query, Headers(fields), io.BytesIO(data)))


def document(response: Response) -> Any:
    return json.loads(b"".join(response.chunks()))


@pytest.fixture
def app() -> App:
    app = shop()
    for name in ("lamp", "chair", "desk"):
        ask(app, "POST", "/items", {"name": name, "price": 2.5})
    return app


def test_a_created_item_is_found_at_its_location(app: App) -> None:
    made = ask(app, "POST", "/items", {"name": "bed", "price": 1})
    assert made.status == 201 and made.header("Location") == "/items/4"
    assert document(ask(app, "GET", "/items/4")) == {"name": "bed", "price": 1.0, "id": 4, "version": 1}


def test_a_patch_changes_what_it_names(app: App) -> None:
    assert document(ask(app, "PATCH", "/items/1", {"price": 9}))["price"] == 9.0
    assert document(ask(app, "GET", "/items/1"))["name"] == "lamp"
    assert ask(app, "PATCH", "/items/1", {"name": None}).status == 422


def test_pages_are_linked(app: App) -> None:
    first = ask(app, "GET", "/items?limit=2&q=")
    assert [item["name"] for item in document(first)["items"]] == ["lamp", "chair"]
    link = first.header("Link") or ""
    second = document(ask(app, "GET", link[1 : link.index(">")]))
    assert [item["name"] for item in second["items"]] == ["desk"] and second["next"] is None


def test_a_stream_is_ndjson_or_an_array_as_the_client_likes(app: App) -> None:
    lines = b"".join(ask(app, "GET", "/items.ndjson").chunks()).splitlines()
    assert [json.loads(line)["id"] for line in lines] == [1, 2, 3]
    assert len(document(ask(app, "GET", "/items.ndjson", accept="application/json"))) == 3


def test_a_version_makes_an_etag(app: App) -> None:
    assert ask(app, "GET", "/items/1").header("ETag") == '"1"'
    assert ask(app, "GET", "/items/1", if_none_match='"1"').status == 304


def test_none_is_204(app: App) -> None:
    assert ask(app, "DELETE", "/items/1").status == 204
    missing = ask(app, "GET", "/items/1")
    assert missing.status == 404 and document(missing)["detail"] == "no item 1"
    assert missing.header("Content-Type") == "application/problem+json"


def test_all_faults_come_in_one_answer(app: App) -> None:
    answer = ask(app, "PATCH", "/items/x", {"name": "", "price": -1, "colour": "red"})
    assert answer.status == 422
    assert [(one["location"], one["pointer"]) for one in document(answer)["errors"]] == [
        ("path", "/id"), ("body", "/name"), ("body", "/price"), ("body", "/colour"),
    ]  # fmt: skip


def test_every_error_is_a_problem_with_the_request_id(app: App) -> None:
    for method, target, body, headers, status in (
        ("GET", "/nowhere", None, {}, 404),
        ("PUT", "/items", {}, {}, 405),
        ("POST", "/items", b'{"name":', {}, 400),
        ("POST", "/items", b"\xff", {}, 400),
        ("POST", "/items", b"[" * 100_000, {}, 400),
        ("POST", "/items", b"x" * 2_000_000, {}, 413),
        ("POST", "/items", {"name": "a"}, {"content_type": "text/csv"}, 415),
        ("GET", "/items", None, {"accept": "text/html"}, 406),
        ("GET", "/items?limit=nan", None, {}, 422),
    ):
        answer = ask(app, method, target, body, x_request_id="abc", **headers)
        assert (answer.status, document(answer)["request_id"]) == (status, "abc"), (method, target)
    assert ask(app, "PUT", "/items").header("Allow") == "GET, HEAD, OPTIONS, POST"


def test_head_and_options_work_on_every_route(app: App) -> None:
    assert ask(app, "HEAD", "/items/1").status == 200
    options = ask(app, "OPTIONS", "/items/1")
    assert options.status == 204 and options.header("Allow") == "DELETE, GET, HEAD, OPTIONS, PATCH"
