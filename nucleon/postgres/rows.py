"""Rows become values: by column name into models, dataclasses and dicts, or as the single column they are.

How is studied once for each type and shape of row. The types of the values are checked; constraints (`Len`, `Min`) are not: those are for
what clients send, and a row that an older release wrote must stay readable.
"""

import datetime
import decimal
import types
import typing
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields
from functools import lru_cache, reduce
from itertools import starmap
from operator import attrgetter, itemgetter, or_
from typing import Annotated, Any, NamedTuple

import msgspec

from nucleon.postgres.errors import StatementFailed

Row = tuple[Any, ...]
Columns = tuple[tuple[str, int], ...]
"""Name and type (its OID) of each column."""
SINGLE = (int, str, float, bool, bytes, uuid.UUID, decimal.Decimal, datetime.datetime, datetime.date, datetime.time, datetime.timedelta)

_name_and_type = attrgetter("name", "type_code")


def columns_of(description: Iterable[Any]) -> Columns:
    """Return the columns of a cursor's description."""
    return tuple(map(_name_and_type, description))


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
    if _is_single(kind):
        return _single(kind)
    wanted = fields_of(kind)
    found = [field for field in wanted if field.name in names]
    _refuse_twins([name for name in names if any(field.name == name for field in found)], kind)
    missing = [field.name for field in wanted if field.required and field.name not in names]
    if missing:
        needed = ", ".join(missing)
        raise StatementFailed(f"the statement gives no column {needed}, which {kind.__name__} needs; it gives {', '.join(names)}")
    return _record(kind, wanted, found, names)


reader: Callable[[Any, Columns], Reader] = lru_cache(maxsize=2048)(_study)


def fields_of(kind: Any) -> list[Field]:
    """Return the fields of a model, dataclass, NamedTuple or TypedDict, in the constructor's order, by column name."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [Field(field.encode_name, unconstrained(field.type), field.required) for field in msgspec.structs.fields(kind)]
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


def _is_single(kind: Any) -> bool:
    if isinstance(kind, type):
        return issubclass(kind, SINGLE) or not (
            issubclass(kind, (dict, msgspec.Struct)) or hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__annotations__")
        )
    return not hasattr(kind, "__required_keys__")


def _refuse_twins(names: list[str], kind: Any) -> None:
    twins = [name for name, times in Counter(names).items() if times > 1]
    if twins:
        raise StatementFailed(f"the statement gives several columns {', '.join(twins)} for {kind.__name__}: name them apart (as)")


def _single(kind: Any) -> Reader:
    kind = unconstrained(kind)
    many = list[kind]
    return Reader(lambda row: _converted(row[0], kind), lambda rows: _converted([row[0] for row in rows], many))


def _record(kind: Any, wanted: list[Field], found: list[Field], names: list[str]) -> Reader:
    by_name = {field.name: field.kind for field in found}
    kept = [at for at, name in enumerate(names) if name in by_name]
    positional = _takes_positions(kind) and found == wanted[: len(found)]
    if positional:
        kept = [names.index(field.name) for field in found]
    kinds: Any = tuple[tuple(by_name[names[at]] for at in kept)]  # type: ignore[misc]
    many: Any = list[kinds]
    pick = None if kept == list(range(len(names))) else _picker(kept)
    if positional:
        if pick is None:
            return Reader(
                lambda row: kind(*_converted(row, kinds)),
                lambda rows: list(starmap(kind, _converted(rows, many))),
            )
        return Reader(
            lambda row: kind(*_converted(pick(row), kinds)),
            lambda rows: list(starmap(kind, _converted(list(map(pick, rows)), many))),
        )
    keep = pick or tuple
    keys = [_attribute_of(kind, names[at]) for at in kept]

    def read(rows: Sequence[Row]) -> list[Any]:
        return [kind(**dict(zip(keys, row, strict=True))) for row in _converted([keep(row) for row in rows], many)]

    return Reader(lambda row: read((row,))[0], read)


def _takes_positions(kind: Any) -> bool:
    if issubclass(kind, msgspec.Struct) or hasattr(kind, "__dataclass_fields__"):
        return len(getattr(kind, "__match_args__", ())) == len(fields_of(kind))  # it has no field that is given by name alone
    return issubclass(kind, tuple)


def _attribute_of(kind: Any, column: str) -> str:
    if issubclass(kind, msgspec.Struct):
        return next(field.name for field in msgspec.structs.fields(kind) if field.encode_name == column)
    return column


def _picker(kept: list[int]) -> Callable[[Row], Row]:
    if not kept:
        return lambda row: ()
    if len(kept) == 1:
        only = kept[0]
        return lambda row: (row[only],)
    return itemgetter(*kept)


def _converted(values: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise StatementFailed("a row does not fit the type it is read as") from error
