"""Values go to PostgreSQL and come back the same, by the row's types."""

import dataclasses
import datetime
import decimal
import enum
import uuid
from typing import Annotated, Any, NamedTuple, TypedDict

import pytest
from psycopg2.extras import DateTimeTZRange, NumericRange

from nucleon.message import Len, Model
from nucleon.postgres import Postgres, StatementFailed

BERLIN = datetime.timezone(datetime.timedelta(hours=2))


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Point(Model):
    x: int
    y: float


class Address(NamedTuple):
    street: str
    number: int | None
    since: datetime.date
    is_home: bool
    place: Point | None


class Everything(Model, kw_only=True):
    big: int
    price: decimal.Decimal
    ratio: float
    yes: bool
    text: str
    raw: bytes
    uid: uuid.UUID
    day: datetime.date
    clock: datetime.time
    at: datetime.datetime
    local: datetime.datetime
    span: datetime.timedelta
    document: dict[str, Any]
    point: Point
    points: list[Point]
    words: list[str]
    matrix: list[list[int]]
    uids: list[uuid.UUID]
    mood: Mood
    moods: list[Mood]
    inside: NumericRange
    booked: DateTimeTZRange
    home: Address
    homes: list[Address]
    nothing: int | None


TYPES = """
create type mood as enum ('good', 'bad');
create type point_type as (x int, y float8);
create type address as (street text, number int, since date, is_home bool, place point_type);
create table everything (
    big bigint, price numeric(20, 6), ratio float8, yes bool, text text, raw bytea, uid uuid, day date, clock time, at timestamptz,
    local timestamp, span interval, document jsonb, point json, points jsonb, words text[], matrix int[], uids uuid[], mood mood,
    moods mood[], inside int4range, booked tstzrange, home address, homes address[], nothing int
)"""

VALUES: dict[str, Any] = {
    "big": 2**62, "price": decimal.Decimal("12345678901234.567890"), "ratio": 0.1 + 0.2, "yes": True, "text": "a'b\\c%s {} \n €",
    "raw": bytes(range(256)), "uid": uuid.UUID(int=7), "day": datetime.date(2026, 2, 28), "clock": datetime.time(23, 59, 59, 999999),
    "at": datetime.datetime(2026, 3, 29, 1, 30, 0, 1, tzinfo=BERLIN), "local": datetime.datetime(2026, 3, 29, 2, 30),
    "span": datetime.timedelta(days=3, seconds=5, microseconds=7), "document": {"a": [1, None, {"b": "c"}]}, "point": Point(1, 2.5),
    "points": [Point(1, 2.5), Point(3, 4.5)], "words": ["a", "b,c", '"', "null", ""], "matrix": [[1, 2], [3, 4]],
    "uids": [uuid.UUID(int=1), uuid.UUID(int=2)], "mood": Mood.GOOD, "moods": [Mood.BAD, Mood.GOOD],
    "inside": NumericRange(1, 5), "booked": DateTimeTZRange(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), None),
    "home": Address('a "quoted", street\\ (x)', None, datetime.date(2020, 1, 2), True, Point(1, 2.5)),
    "homes": [Address("", 5, datetime.date(2021, 1, 2), False, None), Address("b", 6, datetime.date(2022, 1, 2), True, Point(3, 4.0))],
    "nothing": None,
}  # fmt: skip


@pytest.fixture
def table(db):
    db.execute(TYPES)
    return db


def composite(address: Address) -> Any:
    return address._replace(place=None if address.place is None else (address.place.x, address.place.y))


def test_every_type_comes_back_as_it_went(table):
    given = {**VALUES, "moods": [mood.value for mood in VALUES["moods"]]}
    columns = ", ".join(given)
    casts = {"uids": "%s::uuid[]", "moods": "%s::mood[]", "homes": "%s::address[]", "booked": "%s::tstzrange"}
    places = ", ".join(casts.get(name, "%s") for name in given)
    parameters = [table_value(name, value) for name, value in given.items()]
    row = table.one(Everything, f"insert into everything ({columns}) values ({places}) returning *", *parameters)
    for name, value in VALUES.items():
        assert getattr(row, name) == value, name
    assert row.at.utcoffset() is not None and row.local.tzinfo is None


def table_value(name: str, value: Any) -> Any:
    from nucleon.postgres.adapters import Json

    if name == "points":
        return Json(value)
    if name == "home":
        return composite(value)
    return [composite(one) for one in value] if name == "homes" else value


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham"])
def test_an_instant_is_the_same_in_every_time_zone_of_the_session(table, zone):
    at = datetime.datetime(2026, 10, 25, 2, 30, 0, 123456, tzinfo=BERLIN)
    with table.transaction():
        table.execute("select set_config('timezone', %s, true)", zone)
        found = table.value(datetime.datetime, "select %s::timestamptz", at)
    assert found == at and found.utcoffset() is not None


@dataclasses.dataclass
class AsDataclass:
    id: int
    mood: Mood = Mood.GOOD
    extra: str = "default"


class AsTuple(NamedTuple):
    id: int
    mood: Mood


class AsDict(TypedDict):
    id: int
    mood: Mood


class Renamed(Model, rename={"id": "Identifier"}):
    id: int
    mood: Mood | None = None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (AsDataclass, AsDataclass(1, Mood.BAD)),
        (AsTuple, AsTuple(1, Mood.BAD)),
        (AsDict, {"id": 1, "mood": Mood.BAD}),
        (Renamed, Renamed(1, Mood.BAD)),
        (dict, {"mood": "bad", "id": 1, "more": 2}),
        (tuple, ("bad", 1, 2)),
    ],
)
def test_a_row_becomes_any_kind_of_record_by_column_name(db, kind, expected):
    statement = "select 'bad' as mood, 1 as id, 2 as more"
    assert db.one(kind, statement) == expected
    assert db.all(kind, statement + " from generate_series(1, 2)") == [expected, expected]


def test_single_columns_convert_to_the_type_asked_for(table):
    assert table.values(Mood, "select unnest(enum_range(null::mood))") == [Mood.GOOD, Mood.BAD]
    assert table.value(list[Mood], "select array['bad', 'good']::mood[]") == [Mood.BAD, Mood.GOOD]
    assert table.value(float, "select 1.5::numeric") == 1.5
    assert table.value(Point, "select (1, 2.5)::point_type") == Point(1, 2.5)
    assert table.value(Point | None, "select null::point_type") is None


class Limited(Model):
    name: Annotated[str, Len(1, 3)]


def test_constraints_are_for_clients_and_types_are_for_rows(db):
    assert db.one(Limited, "select 'much longer' as name").name == "much longer"
    for wrong in ("select 5 as name", "select null::text as name"):
        with pytest.raises(StatementFailed, match="does not fit"):
            db.one(Limited, wrong)
    with pytest.raises(StatementFailed, match="no column name, which Limited needs; it gives nam"):
        db.all(Limited, "select 'x' as nam")
    with pytest.raises(StatementFailed, match="several columns name"):
        db.all(Limited, "select 'x' as name, 'y' as name")


def test_a_row_that_does_not_fit_names_the_type_and_the_column(db: Postgres) -> None:
    class Part(Model):
        size: int

    class Item(Model):
        id: int
        part: Part
        note: str = ""

    def fault_of(*columns: str) -> str:
        with pytest.raises(StatementFailed) as first:
            db.one(Item, f"select {', '.join(columns)}")
        with pytest.raises(StatementFailed) as all_rows:
            db.all(Item, f"select {', '.join(columns)}")
        assert str(first.value) == str(all_rows.value)
        return str(first.value)

    part = """'{"size": 1}'::json as part"""
    null = "a row does not fit Item: its column note is null: let the field be `... | None`, or the statement give another value"
    assert fault_of("1 as id", part, "null as note") == null
    assert fault_of("null::text as note", part, "1 as id") == null
    assert fault_of("1 as id", part, "7 as note") == "a row does not fit Item: its column note is of another type than its field"
    inner = """'{"size": null}'::json as part"""
    assert fault_of("1 as id", inner) == "a row does not fit Item: its column part is of another type than its field"
