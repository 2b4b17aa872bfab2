"""Statements as functions: studied once, called with values, answered in the form that is asked for."""

import pytest

from nucleon.message import Model
from nucleon.postgres import NoRow, SeveralRows


class Item(Model):
    id: int
    name: str


@pytest.fixture
def shop(db):
    db.many("insert into items (name) values %s", [("cup",), ("pot",)])
    return db


def test_a_query_gives_rows_of_its_type_or_dicts(shop):
    get_item = shop.query("select * from items where id = %s", Item)
    assert get_item(1).unique == Item(1, "cup") and get_item(2).rows == [Item(2, "pot")]
    assert shop.query("select id, name from items where name = %(name)s")(name="pot").rows == [{"id": 2, "name": "pot"}]
    assert [item.name for item in shop.query("select * from items order by id desc", Item)()] == ["pot", "cup"]


def test_flat_and_value_want_one_column(shop):
    names = shop.query("select name from items order by id")
    assert names().flat == ["cup", "pot"] and len(names()) == 2
    assert shop.query("select count(*) from items")().value == 2
    for form in ("flat", "value"):
        with pytest.raises(TypeError, match="2 columns"):
            getattr(shop.query("select id, name from items")(), form)


def test_unique_and_value_want_one_row(shop):
    items = shop.query("select id from items where id > %s")
    for form in ("unique", "value"):
        with pytest.raises(SeveralRows):
            getattr(items(0), form)
        with pytest.raises(NoRow):
            getattr(items(9), form)


def test_a_wrong_number_of_values_is_told_before_anything_is_sent(shop):
    with pytest.raises(TypeError, match="takes 1 values"):
        shop.query("select %s")()
    with pytest.raises(TypeError, match="takes the values id, name"):
        shop.query("select %(id)s, %(name)s")(id=1)
    with pytest.raises(TypeError, match="not both"):
        shop.query("select %s, %(name)s")
    assert shop.query("select '100%%' || %s")("!").value == "100%!"


def test_a_query_changes_rows_and_takes_part_in_the_transaction(shop):
    rename = shop.query("update items set name = %s where id = %s")
    with pytest.raises(ZeroDivisionError), shop.transaction():
        assert rename("mug", 1).touched == 1
        raise ZeroDivisionError
    assert shop.values("select name from items order by id") == ["cup", "pot"]
