"""Every fault of a value, not only the first: walked again only after msgspec has refused it."""

import math
import re
from collections.abc import Iterator
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from decimal import Decimal
from typing import Any, get_args, get_origin

import msgspec

from nucleon.binding.kinds import MAPPINGS, fields_of, is_list, is_record, is_struct, members
from nucleon.errors import Invalid

PATH_OF_MESSAGE = re.compile(r" - at `(?:key in )?\$([^`]*)`$")
STEP_OF_PATH = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
MAXIMUM_FAULTS = 100  # an answer to a hostile body must not be larger than the body


class Faulty(Exception):
    """A place of the request holds wrong values; `faults` are `(pointer, message)`."""

    def __init__(self, place: str, faults: list[tuple[str, str]]) -> None:
        super().__init__(place)
        self.place = place
        self.faults = faults

    def entries(self) -> list[dict[str, str]]:
        """Return the faults as members of a problem's `errors`."""
        return [{"location": self.place, "pointer": pointer, "message": message} for pointer, message in self.faults]


def invalid(entries: list[dict[str, str]]) -> Invalid:
    """Return the 422 problem that lists faults."""
    return Invalid("1 fault" if len(entries) == 1 else f"{len(entries)} faults", errors=entries[:MAXIMUM_FAULTS])


def escaped(step: object) -> str:
    """Escape one step of a JSON pointer (RFC 6901 section 3)."""
    return str(step).replace("~", "~0").replace("/", "~1")


def fault_from(error: msgspec.ValidationError, pointer: str = "") -> tuple[str, str]:
    """Turn msgspec's message into a pointer and a message without the path."""
    text = str(error)
    found = PATH_OF_MESSAGE.search(text)
    if found is None:
        return pointer, text
    steps = [name or index for name, index in STEP_OF_PATH.findall(found[1])]
    return pointer + "".join("/" + escaped(step) for step in steps), text[: found.start()]


def faults_of(value: Any, kind: Any, *, strict: bool = True, pointer: str = "") -> list[tuple[str, str]]:
    """Return the faults of a decoded JSON value against a type: (JSON pointer, message) each; [] when it is good."""
    try:
        msgspec.convert(value, kind, strict=strict, str_keys=True)
    except msgspec.ValidationError as error:
        inside = list(_faults_inside(value, kind, strict, pointer))
        return inside[:MAXIMUM_FAULTS] or [fault_from(error, pointer)]
    return []


def _faults_inside(value: Any, kind: Any, strict: bool, pointer: str) -> Iterator[tuple[str, str]]:
    """Yield the faults of the parts of a value; nothing when the fault is in the whole."""
    parts = members(kind)
    if isinstance(value, dict) and sum(map(is_record, parts)) > 1:
        parts = tuple(part for part in parts if is_record(part) and _has_tag_of(part, value))
    for member in parts:
        if isinstance(value, dict) and is_record(member):
            yield from _faults_of_record(value, member, strict, pointer)
            return
        arguments = get_args(member)
        if isinstance(value, dict) and get_origin(member) in MAPPINGS and len(arguments) == 2:
            for key, item in value.items():
                yield from faults_of(item, arguments[1], strict=strict, pointer=f"{pointer}/{escaped(key)}")
            return
        if isinstance(value, list) and is_list(member) and arguments:
            is_fixed = (get_origin(member) is tuple) and Ellipsis not in arguments
            for index, item in enumerate(value):
                inner = arguments[min(index, len(arguments) - 1)] if is_fixed else arguments[0]
                yield from faults_of(item, inner, strict=strict, pointer=f"{pointer}/{index}")
            return


def _has_tag_of(kind: Any, value: dict[str, Any]) -> bool:
    """Does the value say, by its tag, that it is this member of a union?"""
    if not is_struct(kind):
        return False
    config = (get_origin(kind) or kind).__struct_config__
    return config.tag_field is not None and value.get(config.tag_field) == config.tag


def _faults_of_record(value: dict[str, Any], kind: Any, strict: bool, pointer: str) -> Iterator[tuple[str, str]]:
    fields = {field.encode_name: field for field in fields_of(kind)}
    tag = (get_origin(kind) or kind).__struct_config__.tag_field if is_struct(kind) else None
    for name, field in fields.items():
        if name in value:
            yield from faults_of(value[name], field.kind, strict=strict, pointer=f"{pointer}/{escaped(name)}")
        elif field.is_required:
            yield f"{pointer}/{escaped(name)}", "Missing"
    if is_struct(kind) and (get_origin(kind) or kind).__struct_config__.forbid_unknown_fields:
        for name in value:
            if name not in fields and name != tag:
                yield f"{pointer}/{escaped(name)}", "Unknown field"


def non_finite(value: Any, pointer: str = "") -> Iterator[str]:
    """Yield the JSON pointers of the NaNs and infinities inside a value."""
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            yield pointer
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from non_finite(getattr(value, name), f"{pointer}/{escaped(name)}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from non_finite(item, f"{pointer}/{escaped(key)}")
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield from non_finite(item, f"{pointer}/{index}")
    elif is_dataclass(value) and not isinstance(value, type):
        for field in dataclass_fields(value):
            yield from non_finite(getattr(value, field.name, None), f"{pointer}/{escaped(field.name)}")
