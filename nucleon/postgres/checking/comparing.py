"""The columns of a statement beside the fields of the type that its rows are read as."""

import dataclasses
import datetime
import decimal
import re
import typing
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from nucleon.postgres.checking.describing import Column
from nucleon.postgres.rows import fields_of, unconstrained

_AWARE = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
SAMPLES: Mapping[str, Any] = {
    "bool": True,
    **dict.fromkeys(("int2", "int4", "int8", "oid"), 1),
    **dict.fromkeys(("float4", "float8"), 1.5),
    "numeric": decimal.Decimal("1.5"),
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "char"), "x"),
    "uuid": uuid.UUID(int=0),
    "timestamptz": _AWARE,
    "timestamp": _AWARE.replace(tzinfo=None),
    "date": _AWARE.date(),
    "time": _AWARE.time(),
    "timetz": _AWARE.timetz(),
    "interval": datetime.timedelta(1),
    "bytea": b"x",
}
"""What psycopg2 makes of a value of each type. JSON, ranges and composites may be anything, so they are not compared."""

CASTS = {"int": "::int", "float": "::float8", "str": "::text", "bool": "::bool", "Decimal": "::numeric"}
WRONG_TYPE = re.compile(r"Expected `(.+?)`, got `(.+?)`")


@dataclasses.dataclass(frozen=True, slots=True)
class PostgresType:
    """A type of the database. labels: of an enum; element: of an array."""

    name: str
    labels: tuple[str, ...] = ()
    element: "PostgresType | None" = None

    def samples(self) -> list[Any]:
        """Return values as psycopg2 gives them, none when they may be anything."""
        if self.element is not None:
            return [[one] for one in self.element.samples()]
        if self.labels:
            return list(self.labels)
        return [SAMPLES[self.name]] if self.name in SAMPLES else []


@dataclasses.dataclass(frozen=True, slots=True)
class Catalog:
    """What the database says about the types and tables of a result. nullable: (table OID, column number) that may be null."""

    types: Mapping[int, PostgresType]
    nullable: frozenset[tuple[int, int]]


def is_record(kind: Any) -> bool:
    """Tell whether rows are read as this type by column name."""
    if not isinstance(kind, type):
        return typing.is_typeddict(kind)
    return issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind) or hasattr(kind, "_fields") or typing.is_typeddict(kind)


def compare(kind: Any, columns: Sequence[Column], catalog: Catalog, text: str) -> Iterator[tuple[bool, str]]:
    """Give (is a fault, what and what to do) for each difference; not a fault: a remark."""
    shown = getattr(kind, "__name__", str(kind))
    if not columns:
        yield True, f"gives no rows to read as {shown}: add `returning ...`, or use execute()"
        return
    if not is_record(kind):
        if kind not in (dict, tuple, Any, None):
            yield from _compare_value("the value", kind, columns[0], catalog, text)
        return
    fields = fields_of(kind)
    by_name = {column.name: column for column in columns}
    names = [column.name for column in columns]
    for field in fields:
        if field.name in by_name:
            if names.count(field.name) > 1:
                yield True, f"gives {names.count(field.name)} columns named {field.name}: name them apart with `as`"
            yield from _compare_value(f"{shown}.{field.name}", field.kind, by_name[field.name], catalog, text)
        elif field.required:
            given = ", ".join(names)
            yield True, f"{shown}.{field.name} has no column (there are {given}): select it, or give the field a default"
    surplus = [name for name in by_name if name not in {field.name for field in fields}]
    if surplus:
        yield False, f"column{'s' if surplus[1:] else ''} {', '.join(surplus)} read for nothing: {shown} has no such field"


def _compare_value(shown: str, wanted: Any, column: Column, catalog: Catalog, text: str) -> Iterator[tuple[bool, str]]:
    kind = catalog.types.get(column.type)
    for sample in kind.samples() if kind is not None else ():
        problem = _conversion_fault(sample, wanted)
        if problem is None:
            continue
        assert kind is not None
        named = f"{shown} is {_named(wanted)}"
        if kind.labels:
            yield True, f"{named}, but {kind.name} of column {column.name} has {sample!r}: add it to the field's type"
        elif WRONG_TYPE.search(problem):
            cast = CASTS.get(_named(wanted), "")
            other = f", or select {column.name}{cast}" if cast else ""
            comes = type(sample).__name__
            yield True, f"{named}, column {column.name} is {kind.name} (comes as {comes}): make the field {comes}{other}"
            break
    is_filtered = re.search(rf"\b{re.escape(column.name)}\s+is\s+not\s+null\b", text, re.IGNORECASE)
    if (column.table, column.number) in catalog.nullable and not is_filtered and _conversion_fault(None, wanted) is not None:
        yield (
            True,
            (
                f"{shown} is {_named(wanted)}, column {column.name} may be null: make it `{_named(wanted)} | None`, "
                f"select coalesce({column.name}, ...), or add `where {column.name} is not null`"
            ),
        )


def _conversion_fault(sample: Any, wanted: Any) -> str | None:
    try:
        msgspec.convert(sample, wanted)
    except msgspec.ValidationError as error:
        return str(error)
    except TypeError:  # a type that msgspec does not know cannot be compared
        return None
    return None


def _named(wanted: Any) -> str:
    wanted = unconstrained(wanted)
    return wanted.__name__ if isinstance(wanted, type) and not typing.get_args(wanted) else str(wanted).replace("typing.", "")
