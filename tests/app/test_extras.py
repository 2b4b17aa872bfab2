"""What a route may say beside its path: scopes."""

import io
import json

import pytest

from nucleon import App, Header, Model, Response, SetupError
from nucleon.message import Headers, Request


class Clerk(Model):
    name: str
    scopes: frozenset[str]


class Loose(Model):
    scopes: str


def clerk(scopes: Header[str] = "") -> Clerk:
    return Clerk("ann", frozenset(scopes.split()))


def ask(app: App, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.respond(Request(method, path, "", Headers(fields), io.BytesIO(body)))


def problem(response: Response) -> dict[str, object]:
    assert isinstance(response.body, bytes)
    found: dict[str, object] = json.loads(response.body)
    return found


def test_a_missing_scope_is_a_403_that_names_it_before_the_body_is_read() -> None:
    app = App("a")
    orders = app.group("/orders", auth=clerk, scopes=("orders:write", "orders:read"))

    @orders.post("")
    def order(body: dict[str, int], who: Clerk) -> str:
        return who.name

    @orders.get("", scopes=())
    def orders_of() -> str:
        return "open"

    refused = ask(app, "POST", "/orders", b"{broken", scopes="orders:read orders:writers")
    assert refused.status == 403 and problem(refused)["detail"] == "this needs the scope orders:write"
    admitted = ask(app, "POST", "/orders", b"{}", scopes="orders:read orders:write", content_type="application/json")
    assert (admitted.status, admitted.body) == (200, b"ann")
    assert ask(app, "GET", "/orders").body == b"open"


def test_nobody_holds_no_scope() -> None:
    app = App("a")

    def maybe(name: Header[str] = "") -> Clerk | None:
        return Clerk(name, frozenset({"read"})) if name else None

    @app.get("/x", auth=maybe, scopes=("read",))
    def x() -> None: ...

    assert (ask(app, "GET", "/x").status, ask(app, "GET", "/x", name="ann").status) == (403, 204)


def test_scopes_in_one_str_admit_nobody() -> None:
    app = App("a")

    def loose() -> Loose:
        return Loose("orders:write")

    @app.get("/x", auth=loose, scopes=("orders",))
    def x() -> None: ...

    assert ask(app, "GET", "/x").status == 500
    with pytest.raises(TypeError, match="tuple of names"):
        app.get("/y", auth=loose, scopes="orders")


def test_scopes_without_anybody_to_hold_them_are_a_fault_at_start_up() -> None:
    app = App("a")

    def gate() -> None: ...

    @app.get("/x", scopes=("read",))
    def x() -> None: ...

    @app.get("/y", auth=gate, scopes=("read",))
    def y() -> None: ...

    with pytest.raises(SetupError, match=r"scopes= needs an auth=") as caught:
        app.check()
    assert len(str(caught.value).splitlines()) == 2
