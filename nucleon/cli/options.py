"""Arguments and options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def target(function: F) -> F:
    """Add the TARGET argument."""
    return click.argument("target", required=False, metavar="[MODULE:APP]")(function)


def database(function: F) -> F:
    """Add --database."""
    return click.option("--database", metavar="NAME", help="The resource's name, when there are several (default: each).")(function)


def settings(function: F) -> F:
    """Add --env and --config."""
    function = click.option("--config", "folder", metavar="DIR", help="Folder of the settings (default: config/ of the project).")(function)
    return click.option("--env", "environment", metavar="NAME", help="Environment (default: NUCLEON_ENV, else development).")(function)
