"""Values cut to the declared schema before they are encoded: what is not declared never leaves."""

from collections.abc import Callable
from typing import Any, TypeAlias, get_args, get_origin, is_typeddict

import msgspec

from nucleon.binding.kinds import MAPPINGS, fields_of, is_list, is_record, is_struct, members, plain

Shape: TypeAlias = Callable[[Any], Any]


def shape_from(kind: Any, made: dict[Any, list[Shape]] | None = None) -> Shape | None:
    """Return a function that cuts a value to a type; None when there is nothing to cut (numbers, text, Any)."""
    made = {} if made is None else made
    parts = members(kind)
    if len(parts) > 1:
        return _shape_of_union(kind, parts, made)
    kind = parts[0]
    if is_record(kind):
        return _shape_of_record(kind, made)
    arguments = get_args(kind)
    if is_list(kind) and arguments and arguments[-1] is not Ellipsis and get_origin(kind) is tuple:
        if all(shape_from(part, made) is None for part in arguments):
            return None
        return lambda value: msgspec.convert(value, kind, from_attributes=True)
    if is_list(kind) and arguments:
        inner = shape_from(arguments[0], made)
        return None if inner is None else lambda value: [inner(item) for item in value]
    if get_origin(kind) in MAPPINGS and len(arguments) == 2:
        item_shape = shape_from(arguments[1], made)
        return None if item_shape is None else lambda value: {key: item_shape(item) for key, item in value.items()}
    return None


def whole_type(kind: Any) -> type | None:
    """Return the type whose very instances need no cutting: a Struct of values that need none. None: there is no such type."""
    parts = members(kind)
    owner = get_origin(parts[0]) or parts[0]
    if len(parts) > 1 or not is_struct(owner) or any(shape_from(field.kind) is not None for field in fields_of(parts[0])):
        return None
    found: type = owner
    return found


def _shape_of_union(kind: Any, parts: tuple[Any, ...], made: dict[Any, list[Shape]]) -> Shape | None:
    shapes = [(get_origin(part) or part, shape_from(part, made)) for part in parts]
    if all(shape is None for _, shape in shapes):
        return None
    exact = {owner: shape for owner, shape in shapes if isinstance(owner, type)}
    records = [shape for _, shape in shapes if shape is not None]

    def cut(value: Any) -> Any:
        if value is None:
            return None
        if type(value) in exact:
            shape = exact[type(value)]
            return value if shape is None else shape(value)
        if len(records) == 1 and not isinstance(value, str | int | float | bool | bytes):
            return records[0](value)
        return msgspec.convert(value, kind, from_attributes=True)

    return cut


def _shape_of_record(kind: Any, made: dict[Any, list[Shape]]) -> Shape:
    key = kind if isinstance(kind, type) else str(kind)
    if key in made:  # a record that holds itself: look the finished shape up when it is needed
        later = made[key]
        return lambda value: later[0](value)
    made[key] = []
    shape = _dict_shape(kind, made) if is_typeddict(plain(kind)) else _object_shape(kind, made)
    made[key].append(shape)
    return shape


def _dict_shape(kind: Any, made: dict[Any, list[Shape]]) -> Shape:
    shapes = {field.name: shape_from(field.kind, made) for field in fields_of(kind)}

    def cut(value: Any) -> Any:
        return {name: shape(value[name]) if shape is not None else value[name] for name, shape in shapes.items() if name in value}

    return cut


def _object_shape(kind: Any, made: dict[Any, list[Shape]]) -> Shape:
    owner = get_origin(kind) or kind
    fields = fields_of(kind)
    shaped = [(field.name, shape) for field in fields if (shape := shape_from(field.kind, made)) is not None]

    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            names = {field.encode_name: field.encode_name if field.encode_name in value else field.name for field in fields}
            value = {outside: value[name] for outside, name in names.items() if name in value}
        return msgspec.convert(value, kind, from_attributes=True)

    def cut_flat(value: Any) -> Any:
        return value if type(value) is owner else convert(value)

    def cut_deep(value: Any) -> Any:
        if type(value) is not owner:
            return convert(value)
        changed = {}
        for name, shape in shaped:
            before = getattr(value, name)
            after = shape(before) if before is not None and before is not msgspec.UNSET else before
            if after is not before and not is_same_inside(before, after):
                changed[name] = after
        return msgspec.structs.replace(value, **changed) if changed else value

    def cut_dataclass(value: Any) -> Any:
        # msgspec encodes what is in __dict__: more than the fields, and less where a default was never stored
        value = value if type(value) is owner else convert(value)
        given = {field.name: getattr(value, field.name) for field in fields}
        return given | {name: shape(given[name]) for name, shape in shaped if given[name] is not None}

    if not is_struct(owner):
        return cut_dataclass
    return cut_deep if shaped else cut_flat


def is_same_inside(before: Any, after: Any) -> bool:
    """Are the parts of two containers the very same objects?"""
    if isinstance(before, dict) and isinstance(after, dict):
        return all(after[key] is item for key, item in before.items())
    if isinstance(before, list | tuple) and isinstance(after, list):
        return len(before) == len(after) and all(one is other for one, other in zip(before, after, strict=True))
    return False
