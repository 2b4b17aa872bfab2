"""Questions about annotations, asked at start-up."""

import dataclasses
import types
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

import msgspec

LISTS = (list, tuple, set, frozenset, Sequence, MutableSequence, AbstractSet)
MAPPINGS = (dict, Mapping, MutableMapping)


def plain(kind: Any) -> Any:
    """Return a type without its Annotated."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind


def members(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union; of any other type, that type."""
    kind = plain(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(part for member in get_args(kind) for part in members(member))
    return (kind,)


def is_struct(kind: Any) -> bool:
    """Is it a msgspec Struct (possibly a generic one with arguments)?"""
    owner = get_origin(kind) or kind
    return isinstance(owner, type) and issubclass(owner, msgspec.Struct)


def is_record(kind: Any) -> bool:
    """Is it a type with named fields: a Struct, a dataclass, a TypedDict?"""
    kind = plain(kind)
    owner = get_origin(kind) or kind
    return is_struct(kind) or (isinstance(owner, type) and dataclasses.is_dataclass(owner)) or is_typeddict(owner)


def is_list(kind: Any) -> bool:
    """Is it a list, a tuple or a set?"""
    kind = plain(kind)
    return (get_origin(kind) or kind) in LISTS


def is_structured(kind: Any) -> bool:
    """Does it need a body: a record, a mapping, or a list of these?"""
    for member in members(kind):
        if is_record(member) or (get_origin(member) or member) in MAPPINGS:
            return True
        if is_list(member) and any(is_structured(part) for part in get_args(member)):
            return True
    return False


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a record: its name in Python, its name outside, its type."""

    name: str
    encode_name: str
    kind: Any
    is_required: bool


def fields_of(kind: Any) -> tuple[Field, ...]:
    """Return the fields of a record."""
    kind = plain(kind)
    if is_struct(kind):
        return tuple(Field(field.name, field.encode_name, field.type, field.required) for field in msgspec.structs.fields(kind))
    owner = get_origin(kind) or kind
    hints = get_type_hints(owner, include_extras=True)
    if is_typeddict(owner):
        required = owner.__required_keys__
        return tuple(Field(name, name, hint, name in required) for name, hint in hints.items())
    return tuple(
        Field(one.name, one.name, hints[one.name], one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING)
        for one in dataclasses.fields(owner)
    )


def parts_of(kind: Any, seen: set[Any] | None = None) -> Iterator[Any]:
    """Yield every plain type inside a type, itself included, each record once."""
    seen = set() if seen is None else seen
    for member in members(kind):
        if is_record(member):
            key = member if isinstance(member, type) else str(member)
            if key in seen:
                continue
            seen.add(key)
            yield member
            for field in fields_of(member):
                yield from parts_of(field.kind, seen)
        else:
            yield member
            for part in get_args(member):
                if part is not Ellipsis and not isinstance(part, str | bytes | int):
                    yield from parts_of(part, seen)


def may_hold_non_finite(kind: Any) -> bool:
    """Can a value of this type hold NaN or an infinity?"""
    return any(part in (float, Decimal, Any, object) or isinstance(part, TypeVar) or part in (list, dict) for part in parts_of(kind))


def is_open(kind: Any) -> bool:
    """Can a value of this type be nested without end (Any, or a record that holds itself)?"""
    records = [part for part in parts_of(kind) if is_record(part)]
    if any(part in (Any, object, dict, list) for part in parts_of(kind)):
        return True
    return any(record in set(_inside(record)) for record in records if isinstance(record, type))


def _inside(record: Any) -> Iterator[Any]:
    """Yield the records reachable from the fields of a record; the record itself only when it is reachable again."""
    seen: set[Any] = set()
    for field in fields_of(record):
        for part in parts_of(field.kind, seen):
            if is_record(part) and isinstance(part, type):
                yield part


def unknown_parts(kind: Any) -> list[Any]:
    """Return the types inside a type that neither JSON nor text can be converted to."""
    wrong: list[Any] = []
    for part in parts_of(kind):
        if isinstance(part, str):
            wrong.append(part)
        elif isinstance(get_origin(part) or part, type) and not is_record(part):
            try:
                if isinstance(msgspec.inspect.type_info(part), msgspec.inspect.CustomType):
                    wrong.append(part)
            except TypeError:
                wrong.append(part)
    return wrong


def shown(kind: Any) -> str:
    """Return the name of a type for an error message: `Session[Login]`."""
    owner = get_origin(kind)
    if owner is None:
        return str(getattr(kind, "__qualname__", repr(kind)))
    return f"{shown(owner)}[{', '.join(shown(part) for part in get_args(kind))}]"
