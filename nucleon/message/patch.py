"""`Patch[M]`: the fields of an M that a client wants changed. Absent is not null."""

from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

M = TypeVar("M", bound=msgspec.Struct)


class Patch(Mapping[str, Any], Generic[M]):
    """Field name to new value, only for the fields that the request named; each value has its field's type.

    It is a mapping: `"name" in body`, `body["name"]`, `**body`, and falsy when nothing is to be changed.
    """

    __slots__ = ("_changes",)

    def __init__(self, changes: Mapping[str, Any]) -> None:
        self._changes = dict(changes)

    def __getitem__(self, name: str) -> Any:
        return self._changes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._changes)

    def __len__(self) -> int:
        return len(self._changes)

    def applied_to(self, value: M) -> M:
        """Return a copy of `value` with the changes in it."""
        return msgspec.structs.replace(value, **self._changes)

    def __repr__(self) -> str:
        return f"Patch({self._changes!r})"


def partial_from(model: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return a Struct with the fields of `model`, each of which may be absent (`UNSET`)."""
    fields: list[tuple[str, Any, Any]] = [
        (field.name, field.type | msgspec.UnsetType if not isinstance(field.type, str) else field.type, msgspec.UNSET)
        for field in msgspec.structs.fields(model)
    ]
    rename = {field.name: field.encode_name for field in msgspec.structs.fields(model)}
    return msgspec.defstruct(
        f"Patch_{model.__name__}", fields, rename=rename, forbid_unknown_fields=model.__struct_config__.forbid_unknown_fields, kw_only=True
    )
