"""Rows become values: by column name into models, dataclasses and dicts, or as the single column they are.

How is studied once for each type and shape of row. The types of the values are checked; constraints (`Len`, `Min`) are not: those are for
what clients send, and a row that an older release wrote must stay readable.
"""

import re
import types
import typing
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache, reduce
from itertools import starmap
from operator import itemgetter, or_
from types import NoneType
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg2.extensions
import psycopg2.extras  # registers ranges, UUIDs and JSON

from nucleon.postgres.errors import StatementFailed
from nucleon.postgres.exchange import Columns, Row
from nucleon.postgres.texts import Text, reader_of_text

JSON, JSONB, BYTEA = 114, 3802, 17
KNOWN_TYPES = frozenset({*psycopg2.extensions.string_types, JSON, JSONB, BYTEA})
"""OIDs that psycopg2 makes values of; others come as text."""

NUMBERS = re.compile(r"\[(\d+)\]")


class Field(NamedTuple):
    """A field that a row fills."""

    name: str
    kind: Any
    required: bool


class Reader(NamedTuple):
    """What turns rows of one shape into values of one type. Raises `StatementFailed` for a value that does not fit."""

    one: Callable[[Row], Any]
    all: Callable[[Sequence[Row]], list[Any]]


def _study(kind: Any, columns: Columns) -> Reader:
    """Return what reads rows with these columns as `kind`. Columns that `kind` does not have are left out.

    Raises `StatementFailed` for a required field without a column, and for a field with two.
    """
    names = [name for name, _ in columns]
    if kind is dict:
        _refuse_twins(names, kind)
        return Reader(lambda row: dict(zip(names, row, strict=True)), lambda rows: [dict(zip(names, row, strict=True)) for row in rows])
    if kind is tuple:
        return Reader(lambda row: row, list)
    if is_single(kind):
        return _single(kind, columns[0])
    wanted = fields_of(kind)
    found = [field for field in wanted if field.name in names]
    _refuse_twins([name for name in names if any(field.name == name for field in found)], kind)
    missing = [field.name for field in wanted if field.required and field.name not in names]
    if missing:
        needed = ", ".join(missing)
        raise StatementFailed(f"the statement gives no column {needed}, which {kind.__name__} needs; it gives {', '.join(names)}")
    return _record(kind, wanted, found, columns)


reader: Callable[[Any, Columns], Reader] = lru_cache(maxsize=2048)(_study)
"""`_study`, kept."""


def fields_of(kind: Any) -> list[Field]:
    """Return the fields of a model, dataclass, NamedTuple or TypedDict, in the constructor's order; a column has its field's name.

    Another name that a model has for JSON (`rename=`) is for JSON alone.
    """
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [Field(field.name, unconstrained(field.type), field.required) for field in msgspec.structs.fields(kind)]
    hints = typing.get_type_hints(kind, include_extras=True)
    if hasattr(kind, "__dataclass_fields__"):
        return [
            Field(field.name, unconstrained(hints[field.name]), field.default is MISSING and field.default_factory is MISSING)
            for field in fields(kind)
            if field.init
        ]
    required = getattr(kind, "__required_keys__", None)
    if required is None:
        required = set(hints) - set(getattr(kind, "_field_defaults", ()))
    return [Field(name, unconstrained(hint), name in required) for name, hint in hints.items()]


def unconstrained(kind: Any) -> Any:
    """Return a type without the constraints of `Annotated`, its own and those of a union's members."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return unconstrained(typing.get_args(kind)[0])
    if origin in (typing.Required, typing.NotRequired):
        return unconstrained(typing.get_args(kind)[0])
    if origin in (typing.Union, types.UnionType):
        return reduce(or_, [unconstrained(member) for member in typing.get_args(kind)])
    return kind


def holds_records(kind: Any) -> bool:
    """Tell whether a field's value goes into one column as JSON: a record, or a list of records or dicts."""
    kind = unconstrained(kind)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return any(holds_records(member) for member in typing.get_args(kind))
    if origin in (list, tuple, set, frozenset, Sequence):
        return any(holds_records(member) for member in typing.get_args(kind))
    kind = origin or kind
    return isinstance(kind, type) and (issubclass(kind, (dict, msgspec.Struct)) or hasattr(kind, "__dataclass_fields__"))


def is_single(kind: Any) -> bool:
    """Tell whether a type is read from one column, not from a row's columns by their names."""
    return not (
        (isinstance(kind, type) and issubclass(kind, msgspec.Struct))
        or hasattr(kind, "__dataclass_fields__")  # dataclass
        or hasattr(kind, "_fields")  # NamedTuple
        or hasattr(kind, "__required_keys__")  # TypedDict
    )


def _refuse_twins(names: list[str], kind: Any) -> None:
    twins = [name for name, times in Counter(names).items() if times > 1]
    if twins:
        raise StatementFailed(f"the statement gives several columns {', '.join(twins)} for {kind.__name__}: name them apart (as)")


def _single(kind: Any, column: tuple[str, int]) -> Reader:
    kind = unconstrained(kind)
    if column[1] not in KNOWN_TYPES and (read := reader_of_text(kind)) is not None:
        return Reader(lambda row: _from_text(read, row[0]), lambda rows: [_from_text(read, row[0]) for row in rows])
    many = list[kind]
    return Reader(lambda row: _converted(row[0], kind), lambda rows: _converted([row[0] for row in rows], many))


column_reader: Callable[[Any, tuple[str, int]], Reader] = lru_cache(maxsize=2048)(_single)
"""What reads the first column as `kind`, records from JSON or a composite included."""


def _record(kind: Any, wanted: list[Field], found: list[Field], columns: Columns) -> Reader:
    names = [name for name, _ in columns]
    by_name = {field.name: field.kind for field in found}
    positional = _takes_positions(kind) and found == wanted[: len(found)]
    kept = [names.index(field.name) for field in found] if positional else [at for at, name in enumerate(names) if name in by_name]
    kinds: Any = tuple[tuple(by_name[names[at]] for at in kept)]  # type: ignore[misc]
    many: Any = list[kinds]
    told = (kind, [names[at] for at in kept])
    pick = _picker(kept, len(names), _texts(kept, columns, by_name))
    keep: Callable[[Row], Row] = pick or tuple
    if positional and pick is None:
        fits = _fitting([by_name[names[at]] for at in kept])

        def one(row: Row) -> Any:
            return kind(*row) if fits(row) else kind(*_converted(row, kinds, told))

        return Reader(
            one,
            lambda rows: list(starmap(kind, _converted(rows, many, told, 1))),
        )
    if positional:
        return Reader(
            lambda row: kind(*_converted(keep(row), kinds, told)),
            lambda rows: list(starmap(kind, _converted(list(map(keep, rows)), many, told, 1))),
        )
    keys = [names[at] for at in kept]

    def read(rows: Sequence[Row]) -> list[Any]:
        return [kind(**dict(zip(keys, row, strict=True))) for row in _converted([keep(row) for row in rows], many, told, 1)]

    return Reader(lambda row: read((row,))[0], read)


SCALARS = frozenset({int, str, float, bool, bytes, Decimal, UUID, datetime, date, time, timedelta, NoneType})


def _fitting(kinds: list[Any]) -> Callable[[Row], bool]:
    """Return what tells that a row's values are of their fields' very types, so that nothing has to be checked or converted."""
    allowed = [frozenset(typing.get_args(kind) or (NoneType if kind is None else kind,)) for kind in kinds]
    if not all(kinds_of_one <= SCALARS for kinds_of_one in allowed):
        return lambda row: False
    known: set[tuple[type, ...]] = set()

    def fits(row: Row) -> bool:
        given = tuple(map(type, row))
        if given in known:
            return True
        if all(one in types for one, types in zip(given, allowed, strict=True)):
            known.add(given)
            return True
        return False

    return fits


def _texts(kept: list[int], columns: Columns, by_name: dict[str, Any]) -> dict[int, Text]:
    """Return what reads those kept columns that psycopg2 does not know and hands over as text, by their place among the kept."""
    unknown = [(at, reader_of_text(by_name[columns[place][0]])) for at, place in enumerate(kept) if columns[place][1] not in KNOWN_TYPES]
    return {at: read for at, read in unknown if read is not None}


def _takes_positions(kind: Any) -> bool:
    if issubclass(kind, msgspec.Struct) or hasattr(kind, "__dataclass_fields__"):
        return len(getattr(kind, "__match_args__", ())) == len(fields_of(kind))  # it has no field that is given by name alone
    return issubclass(kind, tuple)


def _picker(kept: list[int], width: int, texts: dict[int, Text]) -> Callable[[Row], Row] | None:
    """Return what takes the kept columns out of a row and reads texts; None when the row is as it should be."""
    if texts:
        reads = [texts.get(at) for at in range(len(kept))]
        return lambda row: tuple(
            [row[place] if read is None else _from_text(read, row[place]) for place, read in zip(kept, reads, strict=True)]
        )
    if kept == list(range(width)):
        return None
    if len(kept) > 1:
        return itemgetter(*kept)
    return lambda row: tuple([row[place] for place in kept])


def _from_text(read: Text, value: Any) -> Any:
    if not isinstance(value, str):
        return value  # null, or a type that the service taught psycopg2 itself
    try:
        return read(value)
    except msgspec.ValidationError as error:
        raise StatementFailed("a row does not fit the type it is read as") from error


def _converted(values: Any, kind: Any, told: tuple[Any, Sequence[str]] = (None, ()), depth: int = 0) -> Any:
    """Return the values as `kind`. told: the type and the columns that an error names; depth: where in its path a column is."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise StatementFailed(_misfit(str(error), *told, depth)) from error


def _misfit(error: str, kind: Any, columns: Sequence[str], depth: int) -> str:
    """Return which column does not fit; what it holds stands in the error, which only the log gets."""
    _, found, path = error.rpartition(" - at `$")
    places = NUMBERS.findall(path) if found else []
    if len(places) <= depth:
        return "a row does not fit the type it is read as"
    is_null = "got `null`" in error and "".join(f"[{place}]" for place in places[: depth + 1]) == path.rstrip("`")
    reason = "is of another type than its field"
    if is_null:
        reason = "is null: let the field be `... | None`, or the statement give another value"
    return f"a row does not fit {kind.__name__}: its column {columns[int(places[depth])]} {reason}"
