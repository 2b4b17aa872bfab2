"""From words on a command line to a call."""

import importlib
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

import click

from nucleon.config.sources import Given
from nucleon.config.typing import convert
from nucleon.errors import SetupError


def function_from(module: str, name: str) -> Callable[..., Any]:
    """Return the function; `SetupError` when there is none."""
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise SetupError(f"there is no module {error.name!r}: name the function as MODULE:FUNCTION") from error
    if not callable(found):
        raise SetupError(f"{module} has no function {name!r}: name it as MODULE:FUNCTION")
    function: Callable[..., Any] = found
    return function


def arguments_from(function: Callable[..., Any], words: Sequence[str]) -> dict[str, Any]:
    """Return the arguments that `--name value` words give, typed by the signature. Raises `click.UsageError`."""
    parameters = inspect.signature(function).parameters
    hints = typing.get_type_hints(function)
    arguments: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if not word.startswith("--") or name not in parameters:
            known = ", ".join(f"--{one.replace('_', '-')}" for one in parameters) or "none"
            raise click.UsageError(f"{word!r} is no argument of {function.__name__}: it takes {known}")
        if not equals:
            if hints.get(name) is bool and (not rest or rest[0].startswith("--")):
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise click.UsageError(f"{word} lacks its value")
        try:
            arguments[name] = convert(Given("", name, value, word), hints.get(name, str))
        except ValueError as error:
            raise click.UsageError(f"{word}: {error}") from error
    return arguments
