"""Can values of a type be kept? Asked where the type is written, not when the first value is stored."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from nucleon.errors import SetupError


def check_kind(what: str, kind: Any) -> None:
    """Raise `SetupError` when values of a type cannot be written as JSON and read again. what: whose type it is."""
    try:
        parts = list(_parts(inspect.type_info(kind), set()))
        msgspec.json.Decoder(kind)
    except (TypeError, NameError) as error:
        raise SetupError(f"{what}: {kind!r} is no type of values, such as a Model: {error}") from None
    for part in parts:
        if isinstance(part, inspect.CustomType) and part.cls is not object:
            raise SetupError(f"{what}: {part.cls.__qualname__} cannot be written as JSON and read again: take a Model or a dataclass")


def _parts(part: Any, seen: set[Any]) -> Iterator[Any]:
    """Yield what a type is made of, itself included, each record once."""
    record = getattr(part, "cls", None)
    if record is not None and not isinstance(part, inspect.CustomType):
        if record in seen:
            return
        seen.add(record)
    yield part
    for name in part.__struct_fields__:
        value = getattr(part, name)
        for inner in value if isinstance(value, tuple) else (value,):
            inner = inner.type if isinstance(inner, inspect.Field) else inner
            if isinstance(inner, inspect.Type):
                yield from _parts(inner, seen)
