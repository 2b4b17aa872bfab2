"""Pages by keyset: complete and stable whatever comes and goes, in any order, with nulls; cursors that cannot be made up."""

import base64
import datetime
import itertools
import json
import time

import pytest

from nucleon import App, Request
from nucleon.errors import Invalid
from nucleon.hooks import query_ended
from nucleon.message import Model, Page, PageQuery
from nucleon.postgres import Postgres, StatementFailed


class Row(Model):
    id: int
    name: str | None = None
    price: float | None = None


@pytest.fixture
def shop(db):
    db.execute("create table goods (id int primary key, name text, price numeric, made timestamptz not null default now())")
    db.many("insert into goods values %s", [(n, None if n % 4 == 0 else f"n{n % 3}", None if n % 5 == 0 else n % 7) for n in range(1, 41)])
    return db


def pages(db, order, limit=7, statement="select id, name, price from goods", *, between=lambda number: None, args=(), **named):
    query = PageQuery(limit=limit)
    for number in itertools.count():
        page = db.page(Row, query, statement, *args, order=order, **named)
        yield page.items
        if page.next is None:
            return
        between(number)
        query = PageQuery(limit=limit, cursor=page.next)


def ids(all_pages):
    return [row.id for items in all_pages for row in items]


@pytest.mark.parametrize("order", ["id", "-id", "name, id", "-name, id", "name, -price, id", "-price, -name, -id", "price, name, id"])
def test_pages_give_every_row_once_in_postgresqls_order(shop, order):
    by = ", ".join(f"{key[1:]} desc" if key.startswith("-") else key for key in order.split(", "))
    expected = shop.values(f"select id from goods order by {by}")
    assert ids(pages(shop, order)) == expected
    assert ids(pages(shop, order)) == expected, "the second time knowing which keys may be null"
    assert [len(items) for items in pages(shop, order, limit=20)] == [20, 20]


@pytest.mark.parametrize("order", ["made, id", "-made, id", "made, -id"])
def test_keys_that_are_never_null_keep_their_microseconds(shop, order):
    shop.execute("update goods set made = timestamptz '2026-01-01 00:00+02' + (id / 3) * interval '1 microsecond'")
    by = ", ".join(f"{key[1:]} desc" if key.startswith("-") else key for key in order.split(", "))
    expected = shop.values(f"select id from goods order by {by}")
    for _ in range(2):
        assert ids(pages(shop, order, statement="select id, made from goods")) == expected
    assert shop.value("select max(made) from goods") > datetime.datetime(2025, 12, 31, 22, tzinfo=datetime.UTC)


def test_keys_that_are_never_null_are_found_by_the_index(shop):
    list(pages(shop, "made, id", statement="select id, made from goods"))
    seen = []
    listener = lambda **event: seen.append(event["statement"])  # noqa: E731
    query_ended.add(listener)
    try:
        list(pages(shop, "made, id", statement="select id, made from goods"))
    finally:
        query_ended.remove(listener)
    assert '("made", "id") > (%s, %s)' in seen[1]


def test_rows_that_come_and_go_between_pages_disturb_no_other(shop):
    def disturb(number):
        shop.execute("delete from goods where id = %s", 100 - number)
        shop.execute("insert into goods values (%s)", -number)  # before everything that was read

    shop.many("insert into goods (id) values %s", [(n,) for n in range(90, 101)])
    found = ids(pages(shop, "id", between=disturb))
    assert [n for n in found if n <= 40] == list(range(1, 41)) and len(found) == len(set(found))


def test_parameters_of_the_statement_stay_what_they_are(shop):
    expected = shop.values("select id from goods where name = 'n1' order by id")
    assert ids(pages(shop, "id", 3, "select id from goods where name = %s;", args=("n1",))) == expected
    assert ids(pages(shop, "id", 3, "select id from goods where name = %(name)s -- named", name="n1")) == expected
    assert ids(pages(shop, "id", 3, "select id from goods where name like '%1'")) == expected


def test_an_outer_join_may_make_nulls_of_a_key(shop):
    shop.execute("create table notes (goods int primary key, stars int not null)")
    shop.many("insert into notes values %s", [(n, n % 2) for n in range(1, 20)])
    statement = "select goods.id, stars from goods left join notes on goods = id"
    for _ in range(2):
        assert sorted(ids(pages(shop, "stars, id", statement=statement))) == list(range(1, 41))


def test_a_cursor_that_was_not_given_out_here_is_a_422(shop):
    page = shop.page(Row, PageQuery(limit=2), "select id from goods", order="id")
    whole = base64.urlsafe_b64decode(page.next + "==")
    forged = base64.urlsafe_b64encode(whole.replace(b'"2"', b'"9"')).decode().rstrip("=")
    elsewhere = shop.page(Row, PageQuery(limit=2), "select id from goods", order="-id").next
    for cursor in (forged, elsewhere, "x", "", "%%%", page.next[:-1], page.next + "AAAA"):
        with pytest.raises(Invalid) as caught:
            shop.page(Row, PageQuery(limit=2, cursor=cursor), "select id from goods", order="id")
        assert caught.value.status == 422 and caught.value.extensions["errors"][0]["message"] == "Not a cursor of this collection"


def refusal(db, cursor):
    with pytest.raises(Invalid) as caught:
        db.page(Row, PageQuery(limit=2, cursor=cursor), "select id from goods", order="id")
    return caught.value.extensions["errors"][0]["message"]


def test_a_cursor_expires(shop, monkeypatch):
    cursor = shop.page(Row, PageQuery(limit=2), "select id from goods", order="id").next
    late = time.time() + shop.settings.cursor_seconds + 1
    monkeypatch.setattr("nucleon.postgres.cursors.time", lambda: late)
    assert refusal(shop, cursor) == "This cursor has expired: begin again without one"


def test_the_key_of_cursors_is_a_setting(fresh_postgres_dsn, shop):
    one, same, other = (Postgres(dsn=fresh_postgres_dsn, cursor_key=key) for key in ("a", "a", "b"))
    cursor = one.page(Row, PageQuery(limit=2), "select id from goods", order="id").next
    query = PageQuery(limit=2, cursor=cursor)
    assert [row.id for row in same.page(Row, query, "select id from goods", order="id").items] == [3, 4]
    assert refusal(other, cursor) == refusal(shop, cursor) == "Not a cursor of this collection"
    for database in (one, same, other):
        database.stop()


def test_an_order_that_cannot_be_is_the_programs_fault(shop):
    def order(text):
        return shop.page(Row, PageQuery(limit=1), "select id, name from goods", order=text)

    for wrong in ("", "id desc", "id; drop table goods", '"id"', "id,,name"):
        with pytest.raises(TypeError):
            order(wrong)
    with pytest.raises(StatementFailed, match="same key"):
        shop.execute("update goods set name = 'same'")
        order("name")
    with pytest.raises(StatementFailed, match="ends in null"):
        shop.execute("update goods set name = null")
        order("-name")
    with pytest.raises(StatementFailed):
        order("nowhere")
    assert isinstance(order("id"), Page)


def test_a_route_answers_with_the_link_to_its_next_page(shop):
    app = App("shop")
    app.use(shop)

    @app.get("/goods")
    def list_goods(page: PageQuery, name: str = "n1") -> Page[Row]:
        return shop.page(Row, page, "select id, name from goods where name = %s", name, order="-id")

    seen, query = [], "name=n2&limit=4"
    while query:
        response = app.respond(Request("GET", "/goods", query))
        assert response.status == 200
        seen += [row["id"] for row in json.loads(response.body)["items"]]
        link = response.header("Link")
        query = "" if link is None else link.partition("?")[2].partition(">")[0]
    assert seen == shop.values("select id from goods where name = 'n2' order by id desc")
    refused = app.respond(Request("GET", "/goods", "cursor=made-up"))
    assert refused.status == 422 and json.loads(refused.body)["errors"][0]["pointer"] == "/cursor"


def test_a_single_key_is_found_by_its_index_also_in_a_view(shop):
    shop.execute("create view seen_goods as select id, name from goods")
    page = shop.page(Row, PageQuery(limit=2), "select * from seen_goods", order="id")
    texts = []
    listener = lambda **event: texts.append(event["statement"])  # noqa: E731
    query_ended.add(listener)
    try:
        page = shop.page(Row, PageQuery(limit=2, cursor=page.next), "select * from seen_goods", order="id")
    finally:
        query_ended.remove(listener)
    assert [row.id for row in page.items] == [3, 4]
    assert 'where ("id") > (%s) order by "id" limit 3' in texts[0]
