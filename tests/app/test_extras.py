"""What a route may say beside its path: scopes, cache, version."""

import io
import json
from typing import Any

import pytest

from nucleon import App, Header, Model, NotFound, Response, SetupError
from nucleon.message import Headers, Request


class Clerk(Model):
    name: str
    scopes: frozenset[str]


class Versioned(Model):
    version: int


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


def test_cache_lets_good_answers_of_get_be_kept_privately_where_there_is_auth() -> None:
    app = App("a")
    kept = app.group("/kept", cache="5m")

    @kept.get("/{id}")
    def one(id: int) -> Versioned:
        if id == 0:
            raise NotFound("none")
        return Versioned(id)

    @kept.get("/mine", auth=clerk, cache=60)
    def mine() -> int:
        return 1

    @kept.post("")
    def add() -> int:
        return 1

    @kept.get("/own")
    def own() -> Response:
        return Response(b"", headers={"cache-control": "no-store"})

    @kept.get("/plain", cache=None)
    def plain() -> int:
        return 1

    first = ask(app, "GET", "/kept/1")
    assert first.header("Cache-Control") == ask(app, "HEAD", "/kept/1").header("Cache-Control") == "max-age=300"
    again = ask(app, "GET", "/kept/1", if_none_match=first.header("ETag") or "")
    assert (again.status, again.header("Cache-Control")) == (304, "max-age=300")
    assert ask(app, "GET", "/kept/mine").header("Cache-Control") == "private, max-age=60"
    assert [value for name, value in ask(app, "GET", "/kept/own").headers if name.lower() == "cache-control"] == ["no-store"]
    others = [ask(app, "GET", "/kept/0"), ask(app, "POST", "/kept"), ask(app, "GET", "/kept/plain")]
    assert [(one.status, one.header("Cache-Control")) for one in others] == [(404, None), (200, None), (200, None)]


@pytest.mark.parametrize("cache", [0, -1, 1.5, True, "", "0s", "60 s", "1w", "soon"])
def test_a_cache_that_is_no_time_is_refused_where_it_stands(cache: Any) -> None:
    with pytest.raises(TypeError, match=r"the route /x: cache= is whole seconds above 0"):
        App("a").get("/x", cache=cache)


def test_version_comes_before_the_whole_path_and_the_nearest_wins() -> None:
    app = App("a")
    orders = app.group("/orders", version="v1")

    @orders.get("/{id}")
    def first(id: int) -> str:
        return f"first {id}"

    @orders.get("/{id}", version="v2")
    def second(id: int) -> str:
        return f"second {id}"

    @orders.get("/health", version=None)
    def health() -> str:
        return "well"

    @app.get("", version="v1")
    def root() -> str:
        return "root"

    assert [route.pattern for route in app.routes()] == ["/v1/orders/{id}", "/v2/orders/{id}", "/orders/health", "/v1"]
    paths = ["/v1/orders/7", "/v2/orders/7", "/orders/health", "/v1"]
    assert [ask(app, "GET", path).body for path in paths] == [b"first 7", b"second 7", b"well", b"root"]
    assert ask(app, "GET", "/orders/7").status == 404


@pytest.mark.parametrize("version", ["", "/v1", "v1/", "{v}", "..", 2])
def test_a_version_that_is_no_segment_is_refused_where_it_stands(version: Any) -> None:
    with pytest.raises(TypeError, match=r"the route /x: version= is one segment"):
        App("a").get("/x", version=version)


def test_a_version_does_not_mend_a_path_without_its_slash() -> None:
    with pytest.raises(SetupError):
        App("a").get("items", version="v1")(lambda: None)
