"""Products: a cached read, with expiry and invalidation."""

from example_app import service
from nucleon.testing import Client


def test_a_product_is_read_from_the_database_once(client: Client) -> None:
    first = client.get("/products/A-1").json()
    service.db.execute("update products set name = 'behind the back' where sku = 'A-1'")
    assert client.get("/products/A-1").json() == first
    assert 600 < int(service.cache.ttl("product:A-1")) <= 660


def test_a_put_is_seen_at_once(client: Client) -> None:
    client.get("/products/A-1")
    assert client.put("/products/A-1", json={"name": "Anvil, large", "price": 99.5}).status == 200
    assert client.get("/products/A-1").json()["name"] == "Anvil, large"


def test_a_new_product_can_be_ordered(client: Client) -> None:
    assert client.put("/products/C-3", json={"name": "Chisel", "price": "7.25"}).json()["price"] == "7.25"
    assert client.post("/orders", json={"customer": "c", "lines": [{"sku": "C-3", "quantity": 1}]}).status == 201


def test_an_unknown_product_is_404_and_not_remembered(client: Client) -> None:
    assert client.get("/products/new").problem["status"] == 404
    client.put("/products/new", json={"name": "New", "price": 1})
    assert client.get("/products/new").status == 200


def test_a_negative_price_is_422(client: Client) -> None:
    assert client.put("/products/A-1", json={"name": "Anvil", "price": -1}).problem["status"] == 422
