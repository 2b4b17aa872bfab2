"""From what somebody wrote to what a `Settings` field holds."""

import types
import typing
from typing import Any

import msgspec

from nucleon.config.sources import Given
from nucleon.secret import Secret

PLAIN_WORDS = {int: "a whole number, without a unit", float: "a number, without a unit", bool: "true or false", str: "text"}
"""What a setting of a simple type holds."""


def is_secret(annotation: Any) -> bool:
    """Tell whether the annotation is `Secret[...]`, alone, as one of several, or a tuple of them."""
    if typing.get_origin(annotation) is tuple:
        return any(is_secret(arm) for arm in typing.get_args(annotation))
    return typing.get_origin(annotation) is Secret or annotation is Secret or any(is_secret(arm) for arm in _arms(annotation))


def may_be_none(annotation: Any) -> bool:
    """Tell whether `None` is a value of the annotation."""
    return type(None) in _arms(annotation)


def _arms(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return ()


def convert(given: Given, annotation: Any) -> Any:
    """Return the typed value. Raises `ValueError` with a message that is fit to be shown (it never holds a secret)."""
    if given.value == "" and given.is_text and may_be_none(annotation):
        return None
    if typing.get_origin(annotation) is tuple and is_secret(annotation):
        return _secrets(given)
    if is_secret(annotation):
        return _secret(given, annotation)
    value = given.value
    if given.is_text and typing.get_origin(annotation) in (tuple, list, frozenset, set):
        value = [part.strip() for part in value.split(",") if part.strip()]
    elif given.is_text and annotation is bool:
        value = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(value.lower(), value)
    try:
        return msgspec.convert(value, annotation, strict=not given.is_text)
    except msgspec.ValidationError as error:
        if annotation in PLAIN_WORDS:
            raise ValueError(f"must be {PLAIN_WORDS[annotation]}, not {value!r}") from None
        raise ValueError(f"{error}: {value!r}") from None


def _secrets(given: Given) -> tuple[Secret[str], ...]:
    """Return a tuple of secret texts; written as one text they are separated by white space, for connection strings have commas."""
    values = given.value.split() if given.is_text else given.value
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("expected a list of secret strings")
    return tuple(Secret(value) for value in values)


def _secret(given: Given, annotation: Any) -> Any:
    inner: Any = str
    for arm in (annotation, *_arms(annotation)):
        if typing.get_origin(arm) is Secret:
            (inner,) = typing.get_args(arm)
    try:
        return Secret(msgspec.convert(given.value, inner, strict=not given.is_text))
    except msgspec.ValidationError:
        raise ValueError(f"expected a secret of type {getattr(inner, '__name__', inner)}") from None
