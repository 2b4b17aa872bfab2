"""The batch command: the business functions of the service, outside any request."""

from example_app import close_stale_orders, service
from nucleon.testing import Client

ORDER = {"customer": "c-17", "lines": [{"sku": "A-1", "quantity": 2}]}


def test_stale_orders_are_closed_and_the_others_left(client: Client) -> None:
    old, paid, new = (client.post("/orders", json=ORDER).json()["id"] for _ in range(3))
    client.patch(f"/orders/{paid}", json={"status": "paid"})
    service.db.execute("update orders set created_at = now() - interval '40 days' where id in (%s, %s)", old, paid)
    assert close_stale_orders(30) == 1
    states = [client.get(f"/orders/{id}").json() for id in (old, paid, new)]
    assert [order["status"] for order in states] == ["closed", "paid", "open"]
    assert states[0]["version"] == 2
    assert close_stale_orders(30) == 0
