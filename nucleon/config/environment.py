"""The environment's name: read once, then fixed for the life of the process."""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from nucleon.errors import SetupError

DEFAULT = "development"  # production is asked for by name, never met by accident
KNOWN = ("development", "test", "production")
NAME = re.compile(r"[a-z][a-z0-9_-]*")

_fixed: str | None = None


def environment_name(asked: str | None = None, variables: Mapping[str, str] | None = None) -> str:
    """Return the environment this process runs in: `asked`, else `NUCLEON_ENV`, else "development".

    The first call decides. Raises `SetupError` when a later one asks for another: a process is never half one
    environment and half another.
    """
    global _fixed
    if _fixed is None:
        variables = os.environ if variables is None else variables
        _fixed = checked_name(asked or variables.get("NUCLEON_ENV") or DEFAULT)
    elif asked is not None and asked != _fixed:
        raise SetupError(f"this process runs in environment {_fixed!r} and cannot change to {asked!r}: start another one")
    return _fixed


def checked_name(name: str) -> str:
    """Return `name` or raise `SetupError` when it cannot name an environment."""
    if NAME.fullmatch(name) and name != "default":
        return name
    raise SetupError(f"{name!r} is no environment name: use development, test, production or the name of a file in config/")


def refuse_unknown(name: str, folder: Path | None) -> None:
    """Raise `SetupError` when neither nucleon nor `folder` knows the environment `name`, with the nearest one that exists."""
    found = {path.stem for path in folder.glob("*.toml")} - {"default"} if folder is not None else set()
    names = sorted({*KNOWN, *found})
    if name in names:
        return
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(names)}"
    raise SetupError(f"unknown environment {name!r}: {hint} (an environment of your own is a file config/{name}.toml)")
