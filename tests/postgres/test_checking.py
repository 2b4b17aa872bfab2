"""`nucleon db check`: statements of real modules against a real server, faults told with file, line and what to do."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from nucleon.postgres import Postgres
from nucleon.postgres.checking import Report, check_modules

HEAD = """
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, TypedDict
from uuid import UUID
from dataclasses import dataclass
from psycopg2.sql import SQL, Identifier
from nucleon import Len, Min, Model
from nucleon.postgres import Postgres

db = Postgres()

class Item(Model):
    id: int
    name: Annotated[str, Len(1, 80)]
    price: Decimal
    note: str | None
    state: Literal["open", "closed"] = "open"

"""
TABLES = """
create type state as enum ('open', 'closed', 'lost');
create table items (id bigint generated always as identity primary key, name text not null, price numeric(10, 2) not null, note text,
    state state not null default 'open', tags text[] not null default '{}', made timestamptz not null default now(), body jsonb, key uuid)
"""
_numbers = count(1)

Check = Callable[[str], Report]


@pytest.fixture
def check(fresh_postgres_dsn: str, tmp_path: Path) -> Iterator[Check]:
    resources: list[Postgres] = []
    names: list[str] = []

    def check(text: str) -> Report:
        name = f"checked_{next(_numbers)}"
        file = tmp_path / f"{name}.py"
        file.write_text(HEAD + text)
        specification = importlib.util.spec_from_file_location(name, file)
        assert specification is not None and specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module
        names.append(name)
        specification.loader.exec_module(module)
        module.db.configure(Postgres(dsn=fresh_postgres_dsn).settings, "postgres")
        if not resources:
            module.db.execute(TABLES)
        resources.append(module.db)
        return check_modules([module], {"postgres": module.db}, tmp_path)

    yield check
    for one in resources:
        one.stop()
    for one in names:
        del sys.modules[one]


def test_statements_that_fit_are_silent(check: Check) -> None:
    report = check("""
COLUMNS = "id, name, price, note"
@dataclass
class Made:
    made: datetime
    tags: list[str]
    key: UUID | None

class Row(TypedDict):
    id: int

class Stored(Model):
    id: int
    price: Decimal

def all_of_them(after, customer, database: Postgres):
    db.all(Item, "select id, name, price, note from items where id > %s and name like 'a%%' limit %s", after, 3)
    db.all(Item, "select " + COLUMNS + " from items")
    db.one(Item, f"select {COLUMNS} from items where id = any(%s)", [1])
    sql = "select made, tags, key from items where (%(name)s::text is null or name = %(name)s) and %(name)s is not null"
    db.maybe_one(Made, sql, name="x")
    database.all(Row, "select id from items where name in %s", ("a", "b"))
    db.value(int, "select count(*) from items where made > now() - interval %s", "1 day")
    db.value("select id from items where price % 2 = 0")
    db.values(str | None, "select note from items")
    db.values(str, "select note from items where note is not null")
    db.execute("insert into items (name, price, body) values (%(name)s, %(price)s, %(body)s)", **customer)
    db.many("insert into items (name, price) values %s on conflict do nothing", [("a", 1)])
    db.execute("update items set made = now() - make_interval(days => %s)", 3)
    for row in db.stream(dict, "select * from items", batch_rows=10):
        pass
    db.page(Item, after, "select id, name, price, note from items where name = %s", "x", order="-price, id")
    db.insert(Stored, "items", customer, tags=["a"])
    db.upsert(Stored, "public.items", customer, key="name")
    db.update(Stored, "items", customer, expected=3, id=1)
    db.delete("items", id=1)
    db.query("select id from items where price % 2 = 0")
    db.query("select id, name, price, note from items where name like %s || '%%'", Item)
    return lambda: db.value("select count(*) from items where name = %s", "x")
""")
    assert (report.faults, report.unchecked) == ([], [])
    assert report.checked == 21


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ('db.one(Item, "select id, nmae, price, note from items")', 'column "nmae" does not exist (42703)'),
        ('db.execute("delete form items")', "syntax error"),
        ('db.execute("delete from itmes where id = %s", 1)', 'relation "itmes" does not exist (42P01)'),
        ('db.one(Item, "select id, name, price from items")', "Item.note has no column (there are id, name, price): select it"),
        (
            'db.one(Item, "select id::text as id, name, price, note from items")',
            "Item.id is int, column id is text (comes as str): make the field str, or select id::int",
        ),
        (
            'db.one(Item, "select id, coalesce(note, name) as name, price, note, state from items")',
            "but state of column state has 'lost': add it to the field's type",
        ),
        (
            'db.one(Item, "select id, note as name, price, note from items")',
            "Item.name is str, column name may be null: make it `str | None`",
        ),
        (
            'db.value(int, "select sum(id) from items")',
            "the value is int, column sum is numeric (comes as Decimal): make the field Decimal",
        ),
        ('db.values(datetime, "select id from items")', "the value is datetime, column id is int8 (comes as int): make the field int"),
        ('db.values(list[int], "select tags from items")', "the value is list[int], column tags is _text"),
        ("db.one(Item, \"insert into items (name, price) values ('a', 1)\")", "gives no rows to read as Item: add `returning ...`"),
        (
            'db.one(Item, "select a.id, b.id, a.name, a.price, a.note from items a, items b")',
            "gives 2 columns named id: name them apart",
        ),
        ('db.one(Item, "select * from items where id = %s and name = %s", 1)', "has 2 placeholders (%s) and is given 1 values"),
        ('db.one(Item, "select * from items where id = %(id)s", ix=1)', "has no value for %(id)s"),
        ('db.one(Item, "select * from items where id = %s")', "has 1 placeholders and is given no values"),
        (
            'db.page(Item, 1, "select id, name, price, note from items", order="-prize, id")',
            "the statement has no column prize: it has id,",
        ),
        ('db.insert(Item, "items", {}, owner=3)', "the table has no column owner: it has id, name"),
        ('db.insert(Item, "items", {"nam": "x", "price": 1})', "the table has no column nam: it has id, name"),
        ('db.update(Item, "itmes", {}, id=3)', 'relation "itmes" does not exist'),
        ('db.delete("items", ident=3)', "the table has no column ident"),
        ('db.query("select id, name from items where id = %s", Item)', "Item.price has no column"),
        ("db.execute(\"delete from items where name like 'a%' and id = %s\", 1)", 'has "%\'": with values'),
    ],
)
def test_each_fault_is_told_with_what_to_do(check: Check, call: str, said: str) -> None:
    report = check(f"def function():\n    {call}\n")
    assert any(said in line for line in report.faults), report


def test_the_fields_of_a_written_model_are_columns_of_the_table(check: Check) -> None:
    report = check("""
from nucleon import Patch

class New(Model):
    name: str
    colour: str

class Fitting(Model):
    name: str
    price: Decimal

def insert(body: New, good: Fitting):
    db.insert(Item, "items", good)
    db.insert(Item, "items", body)

def change(body: Patch[New]):
    def inner():
        return db.update(Item, "items", body, id=1)
    return inner

def unknown(body, other: dict[str, str], again: New):
    again = {"name": "x"}
    db.insert(Item, "items", body)
    db.insert(Item, "items", other)
    db.insert(Item, "items", again)
""")
    missing = [line for line in report.faults if "the table has no column colour: it has id, name" in line]
    assert [line.partition(": ")[0].partition(":")[2] for line in missing] == ["33", "37"], report.faults
    assert report.checked == 6


def test_a_fault_in_a_statement_of_several_lines_is_told_with_its_own_line(check: Check, tmp_path: Path) -> None:
    report = check('''
def function():
    return db.all(
        Item,
        """
        select id, name, price, note
        from items
        where nmae = %s
        """,
        "x",
    )
''')
    file = next(tmp_path.glob("*.py"))
    line = file.read_text().splitlines().index("        where nmae = %s") + 1
    assert report.faults == [f'{file.name}:{line}: column "nmae" does not exist (42703)']


def test_columns_that_are_read_for_nothing_are_a_remark(check: Check) -> None:
    report = check('def function():\n    db.all(Item, "select id, name, price, note, made, tags from items")\n')
    assert report.faults == []
    (remark,) = report.remarks
    assert remark.endswith(": columns made, tags read for nothing: Item has no such field")


def test_what_is_built_at_run_time_is_listed_and_never_guessed(check: Check) -> None:
    report = check("""
class Lazy:
    def __getitem__(self, key):
        raise AssertionError("looking must not run the user's code")

LAZY = Lazy()
TEXTS = {}

class Store:
    def __init__(self, db):
        self.db = db
    def read(self):
        return self.db.one(Item, "select * from items")

def function(column, statement):
    db.all(Item, f"select * from items order by {column}")
    db.all(Item, "select * from items order by %s" % column)
    db.execute(statement)
    db.execute(SQL("delete from {}").format(Identifier("items")))
    text = "select 1"
    if column:
        text = "select 2"
    db.execute(text)
    db.values("select %s + %s", 1, 2)
    db.insert(Item, column, {})
    db.execute("delete from items; delete from items")
    db.execute(TEXTS["missing"])
    db.values(str, LAZY["any"])
    {}.values()
""")
    assert report.faults == [] and report.checked == 0
    reasons = [
        "which database self.db is cannot be seen",
        "an f-string with column",
        "built at run time: 'select * from items order by %s' % column",
        "statement is a parameter",
        "built at run time: SQL('delete from {}')",
        "text has several values",
        "column is a parameter",
        "TEXTS['missing'] cannot be seen",
        "LAZY['any']",
        "the values decide",
        "several statements in one text",
    ]
    assert len(report.unchecked) == len(reasons)
    for line, reason in zip(report.unchecked, reasons, strict=True):
        assert reason in line


def test_nothing_is_executed(check: Check) -> None:
    report = check("""
def function():
    db.execute("insert into items (name, price) values ('a', 1)")
    db.execute("drop table items")
    db.value(int, "select nextval(pg_get_serial_sequence('items', 'id'))")
    return db.value("select coalesce((select max(id) from items), 0)")
""")
    assert (report.checked, report.faults) == (4, [])
    module = next(one for name, one in sys.modules.items() if name.startswith("checked_"))
    assert module.function.__globals__["db"].value("select count(*) from items") == 0
    assert module.db.value("select nextval(pg_get_serial_sequence('items', 'id'))") == 1
