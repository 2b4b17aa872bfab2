"""The address of the server: what is wrong with it is told at the start, and without the password in it."""

import difflib
import inspect
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

from redis.connection import Connection, parse_url

from nucleon.errors import SetupError

FIT_TO_SHOW = ("Redis URL must specify", "Invalid value for")
ESCAPES = "(in user and password write %2F for '/', %3F for '?', %23 for '#', %40 for '@')"
OUR_NAMES = {"max_connections": "max_connections", "timeout": "wait_seconds"}
"""Parameters of redis-py's pool, and the settings that stand for them here."""


def options_from(url: str) -> dict[str, Any]:
    """Return redis-py's keyword arguments for a url. Raises `SetupError`; its text never holds a part of user or password."""
    try:
        options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
        given = urlsplit(url)
    except ValueError as error:
        text = str(error)  # most quote the address, and that part may be one of the password
        _refuse(text if text.startswith(FIT_TO_SHOW) else f"the host or the port is none {ESCAPES}")
    if given.scheme != "unix" and "db" not in parse_qs(given.query) and given.path not in ("", "/") and "db" not in options:
        _refuse(f"behind the host stands the number of a database, such as /0 {ESCAPES}")
    known = _parameters(options.get("connection_class", Connection))
    for name in sorted(parse_qs(given.query)):
        if name in OUR_NAMES:
            _refuse(f"its parameter {name} has no meaning here, set {OUR_NAMES[name]} in the settings")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            _refuse(f"a parameter behind '?' is none of redis-py's connections{f', is it {near[0]}?' if near else f' {ESCAPES}'}")
    return options


def _refuse(why: str) -> NoReturn:
    """Say what is wrong."""
    raise SetupError(f"the url of Redis cannot be read: {why}")


def _parameters(kind: type) -> set[str]:
    """Return what a connection of redis-py takes by name."""
    found: set[str] = set()
    for one in kind.__mro__:
        if "__init__" in vars(one):
            found.update(inspect.signature(vars(one)["__init__"]).parameters)
    return found - {"self", "args", "kwargs"}
