"""One row of one table from models and patches; optimistic concurrency by a version column."""

import gevent
import pytest
from psycopg2 import sql

from nucleon.errors import PreconditionFailed
from nucleon.message import Headers, Model, Patch, Request
from nucleon.postgres import AlreadyExists, ConstraintFailed, NoRow, SeveralRows, StatementFailed


class Line(Model):
    sku: str
    quantity: int


class NewOrder(Model):
    customer: str
    lines: list[Line] = []
    tags: list[str] = []


class Order(NewOrder, kw_only=True):
    id: int
    version: int


TABLE = """
create table orders (
    id int generated always as identity primary key, customer text not null unique check (customer <> ''),
    lines jsonb not null default '[]', tags text[] not null default '{}', version int not null default 1
)"""


@pytest.fixture
def orders(db):
    db.execute(TABLE)
    return db


def request(if_match=None):
    return Request("PATCH", "/orders/1", headers=Headers({} if if_match is None else {"if-match": if_match}))


def test_a_model_is_inserted_and_comes_back_typed(orders):
    body = NewOrder("ann", [Line("A-1", 2)], ["new"])
    assert orders.insert(Order, "orders", body) == Order(id=1, version=1, customer="ann", lines=[Line("A-1", 2)], tags=["new"])
    assert orders.insert(Order, "public.orders", NewOrder("bob")).lines == []
    assert orders.insert(Order, sql.Identifier("orders"), {"customer": "cid"}, tags=["x"]).tags == ["x"]
    with pytest.raises(AlreadyExists):
        orders.insert(Order, "orders", NewOrder("ann"))
    with pytest.raises(ConstraintFailed):
        orders.insert(Order, "orders", NewOrder(""))


def test_a_patch_changes_what_it_names_and_counts_the_version_up(orders):
    orders.insert(Order, "orders", NewOrder("ann", [], ["new"]))
    assert orders.update(Order, "orders", Patch({"customer": "eve"}), id=1) == Order(id=1, version=2, customer="eve", tags=["new"])
    assert orders.update(Order, "orders", Patch({"lines": [Line("B", 1)]}), id=1).lines == [Line("B", 1)]
    assert orders.update(Order, "orders", Patch({"lines": []}), id=1).lines == [], "an empty list of models is JSON too"
    assert orders.value("select lines::text from orders") == "[]"
    assert orders.update(Order, "orders", Patch({}), id=1).version == 4, "nothing to change is no change"
    with pytest.raises(NoRow):
        orders.update(Order, "orders", Patch({"customer": "x"}), id=9)


def test_if_match_lets_one_of_two_writers_win(orders):
    orders.insert(Order, "orders", NewOrder("ann"))
    assert orders.update(Order, "orders", Patch({"tags": ["a"]}), id=1, expected=request('"1"')).version == 2
    with pytest.raises(PreconditionFailed) as caught:
        orders.update(Order, "orders", Patch({"tags": ["b"]}), id=1, expected=request('"1"'))
    assert caught.value.status == 412 and caught.value.headers == {"ETag": '"2"'}
    assert orders.value("select tags from orders") == ["a"]
    for header in ('"7", "2"', "*", None):
        orders.update(Order, "orders", Patch({"version": 2}), id=1, expected=request(header))
    with pytest.raises(PreconditionFailed):
        orders.update(Order, "orders", Patch({}), id=1, expected=request('W/"2"'))
    with pytest.raises(NoRow):
        orders.update(Order, "orders", Patch({"tags": []}), id=9, expected=1)


def test_of_concurrent_writers_with_one_version_exactly_one_wins(orders):
    orders.insert(Order, "orders", NewOrder("ann"))
    writers = [gevent.spawn(orders.update, Order, "orders", Patch({"tags": [str(n)]}), id=1, expected=1) for n in range(8)]
    gevent.joinall(writers)
    assert [type(writer.exception) for writer in writers if writer.exception] == [PreconditionFailed] * 7
    assert orders.value("select version from orders") == 2


def test_a_key_that_names_several_rows_changes_none(orders):
    orders.many("insert into orders (customer, tags) values %s", [("a", ["x"]), ("b", ["x"])])
    with pytest.raises(SeveralRows):
        orders.update(Order, "orders", Patch({"customer": "c"}), tags=["x"])
    with pytest.raises(SeveralRows):
        orders.delete("orders", tags=["x"])
    assert orders.values("select customer from orders order by id") == ["a", "b"]
    with pytest.raises(TypeError, match="which row"):
        orders.delete("orders")


def test_upsert_inserts_or_changes_by_its_key(orders):
    first = orders.upsert(Order, "orders", NewOrder("ann", [], ["a"]), key="customer")
    second = orders.upsert(Order, "orders", NewOrder("ann", [], ["b"]), key="customer")
    assert (first.id, first.version, second.version, second.tags) == (second.id, 1, 2, ["b"])
    assert orders.upsert(dict, "orders", {"customer": "ann"}, key=("customer",))["version"] == 2


def test_delete_takes_one_row_of_the_version_that_was_seen(orders):
    orders.insert(Order, "orders", NewOrder("ann"))
    with pytest.raises(PreconditionFailed):
        orders.delete("orders", id=1, expected=5)
    orders.delete("orders", id=1, expected="1")
    with pytest.raises(NoRow):
        orders.delete("orders", id=1)


def test_names_are_quoted_whatever_they_hold(db):
    db.execute('create table "odd"" %%table; drop" ("per%%cent" int, "select" text)', *[])
    table = sql.Identifier('odd" %%table; drop')
    assert db.insert(dict, table, {"per%%cent": 1, "select": "'; --"}) == {"per%%cent": 1, "select": "'; --"}
    assert db.update(dict, table, {"select": None}, **{"per%%cent": 1})["select"] is None


def test_a_failed_write_in_a_transaction_leaves_nothing(orders):
    with pytest.raises(PreconditionFailed), orders.transaction():
        orders.insert(Order, "orders", NewOrder("ann"))
        orders.update(Order, "orders", Patch({"tags": []}), customer="ann", expected=9)
    assert orders.value("select count(*) from orders") == 0 and orders.pool.in_use == 0


class Address(Model, rename="camel"):
    street_name: str


class Person(Model, rename="camel", kw_only=True):
    first_name: str
    home_address: Address | None = None
    shoe_size: int | None = None


def test_other_names_in_json_are_no_other_columns(db):
    db.execute("create table people (id int generated always as identity primary key, first_name text, home_address jsonb, shoe_size int)")
    stored = db.insert(Person, "people", Person(first_name="Ada", home_address=Address("Main Street")))
    assert stored == Person(first_name="Ada", home_address=Address("Main Street"))
    assert db.value(str, "select home_address ->> 'streetName' from people") == "Main Street"
    assert db.update(Person, "people", Patch({"first_name": "Eva", "shoe_size": 38}), id=1).first_name == "Eva"
    assert db.one(Person, "select shoe_size, first_name from people") == Person(first_name="Eva", shoe_size=38)
    with pytest.raises(StatementFailed, match="no column first_name, which Person needs"):
        db.all(Person, 'select first_name as "firstName" from people')
