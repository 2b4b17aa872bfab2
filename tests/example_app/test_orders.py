"""Orders over HTTP."""

from typing import Any

import pytest

from nucleon.testing import Client

ORDER = {"customer": "c-17", "lines": [{"sku": "A-1", "quantity": 2}]}


def placed(client: Client, **changes: Any) -> dict[str, Any]:
    answer = client.post("/orders", json={**ORDER, **changes})
    assert answer.status == 201, answer.text
    order: dict[str, Any] = answer.json()
    return order


def test_an_order_is_placed_and_read_back(client: Client) -> None:
    created = client.post("/orders", json=ORDER)
    assert created.status == 201
    order = created.json()
    assert created.headers["location"] == f"/orders/{order['id']}"
    assert {"customer": "c-17", "lines": ORDER["lines"], "status": "open", "note": None, "version": 1}.items() <= order.items()
    assert client.get(created.headers["location"]).json() == order


def test_an_order_that_is_sent_again_with_its_key_is_placed_once(client: Client) -> None:
    answers = [client.post("/orders", json=ORDER, headers={"idempotency-key": '"first"'}) for _ in range(3)]
    assert len({answer.body for answer in answers}) == 1
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true", "true"]
    assert len(client.get("/orders").json()["items"]) == 1


def test_a_missing_order_is_404(client: Client) -> None:
    for method in ("GET", "DELETE"):
        assert client.request(method, "/orders/99").problem["status"] == 404
    assert client.patch("/orders/99", json={"note": "x"}).problem["status"] == 404


def test_a_change_leaves_what_it_does_not_name(client: Client) -> None:
    order = placed(client, note="fragile")
    changed = client.patch(f"/orders/{order['id']}", json={"status": "paid"}).json()
    assert changed == {**order, "status": "paid", "version": 2}
    changed = client.patch(f"/orders/{order['id']}", json={"note": None}).json()
    assert (changed["note"], changed["status"]) == (None, "paid")


def test_a_closed_order_stays_as_it_is(client: Client) -> None:
    order = placed(client)
    client.patch(f"/orders/{order['id']}", json={"status": "closed"})
    problem = client.patch(f"/orders/{order['id']}", json={"customer": "c-18"}).problem
    assert (problem["status"], problem["order_id"]) == (409, order["id"])


def test_a_deleted_order_is_gone_with_its_lines(client: Client) -> None:
    order = placed(client)
    answer = client.delete(f"/orders/{order['id']}")
    assert (answer.status, answer.body) == (204, b"")
    assert client.get(f"/orders/{order['id']}").status == 404
    assert client.get("/orders").json()["items"] == []


def test_an_unknown_product_is_a_conflict_and_leaves_nothing_behind(client: Client) -> None:
    lines = [{"sku": "A-1", "quantity": 1}, {"sku": "nothing", "quantity": 1}]
    assert client.post("/orders", json={"customer": "c-17", "lines": lines}).problem["status"] == 409
    assert client.get("/orders").json()["items"] == []


def test_the_same_product_twice_is_a_conflict(client: Client) -> None:
    lines = [{"sku": "A-1", "quantity": 1}] * 2
    assert client.post("/orders", json={"customer": "c-17", "lines": lines}).problem["status"] == 409


def test_all_faults_of_an_order_come_at_once(client: Client) -> None:
    body = {"customer": "", "lines": [{"sku": "A-1", "quantity": 0}], "colour": "red"}
    problem = client.post("/orders", json=body).problem
    assert problem["status"] == 422
    assert {"/customer", "/lines/0/quantity", "/colour"} == {fault["pointer"] for fault in problem["errors"]}


def test_pages_follow_each_other(client: Client) -> None:
    ids = [placed(client, customer=f"c-{number % 2}")["id"] for number in range(5)]
    seen, cursor = [], None
    while True:
        page = client.get("/orders", query={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [order["id"] for order in page["items"]]
        cursor = page.get("next")
        if not cursor:
            break
    assert seen == ids
    assert [order["id"] for order in client.get("/orders?customer=c-1").json()["items"]] == ids[1::2]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "cursor=%21"])
def test_a_wrong_page_is_422(client: Client, query: str) -> None:
    assert client.get(f"/orders?{query}").problem["status"] == 422


def test_the_export_streams_every_order(client: Client) -> None:
    ids = [placed(client)["id"] for _ in range(3)]
    answer = client.get("/orders.ndjson")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [line.startswith("{") for line in answer.text.splitlines()] == [True] * 3
    assert ids == [client.get(f"/orders/{id}").json()["id"] for id in ids]


def test_a_client_that_leaves_the_export_gives_its_connection_back(client: Client) -> None:
    for _ in range(2):
        placed(client)
    for _ in range(30):  # more than there are connections
        with client.get("/orders.ndjson") as answer:
            next(answer.pieces())
    assert client.get("/orders").status == 200
