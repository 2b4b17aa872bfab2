"""Where values come from: TOML files, environment variables, flags; each value with its origin."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

URLS = {"DATABASE_URL": ("postgres", "dsn"), "REDIS_URL": ("redis", "url"), "AMQP_URL": ("amqp", "url")}
"""The usual names of hosting platforms, and the setting each stands for."""

PREFIX = "NUCLEON_"
TEST_PREFIX = "NUCLEON_TEST_"
TABLE = re.compile(r"\s*\[([^\[\]]+)\]")
KEY = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=")


@dataclass(frozen=True, slots=True)
class Given:
    """One value that somebody wrote, before it has a type. `is_text`: it came as a string and may mean a number."""

    section: str
    field: str
    value: Any
    origin: str
    is_text: bool = True
    is_platform: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and where."""

    origin: str
    what: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.what}"


def from_file(path: Path, shown: str) -> Iterator[Given | Fault]:
    """Read one TOML file; a file that is not there gives nothing."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        yield Fault(shown, f"cannot be read: {error}")
        return
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at line ")
        line = place.split(",")[0]
        yield Fault(f"{shown}:{line}" if line else shown, f"is not TOML: {what}")
        return
    lines = _lines(text)
    for section, table in document.items():
        if not isinstance(table, dict):
            what = f"{section!r} stands outside of a section: put it under a heading such as [app]"
            yield Fault(f"{shown}:{lines.get((section,), 1)}", what)
            continue
        for field, value in table.items():
            line_number = lines.get((section, field)) or lines.get((section,), 1)
            yield Given(section, field, value, f"{shown}:{line_number}", is_text=False)
        if not table:
            yield Given(section, "", None, f"{shown}:{lines.get((section,), 1)}", is_text=False)


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Return the line of each table and key; tomllib does not keep them."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if heading := TABLE.match(line):
            table = _names(heading[1])
            lines.setdefault(table, number)
        elif key := KEY.match(line):
            lines.setdefault((*table, *_names(key[1])), number)
    return lines


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(name.strip().strip("\"'") for name in dotted.split("."))


def from_variables(variables: Mapping[str, str], environment: str) -> Iterator[Given | Fault]:
    """Read DATABASE_URL and friends, then NUCLEON_SECTION__FIELD; any of them may end in _FILE and name a file.

    In the environment "test" only NUCLEON_TEST_SECTION__FIELD, NUCLEON_TEST_DATABASE_URL and friends count: a test run
    that inherits the variables of a production shell must not find its servers.
    """
    prefix = TEST_PREFIX if environment == "test" else PREFIX
    for name, (section, field) in URLS.items():
        usual = f"{TEST_PREFIX}{name}" if environment == "test" else name
        yield from _variable(variables, usual, section, field, is_platform=True)
    for name in sorted(variables):
        if not name.startswith(prefix) or (prefix == PREFIX and name.startswith(TEST_PREFIX)) or "__" not in name:
            continue
        bare = name.removesuffix("_FILE")
        if bare != name and bare in variables:
            continue  # _variable reports that both are set when it meets the bare name
        section, _, field = bare[len(prefix) :].lower().partition("__")
        yield from _variable(variables, bare, section, field)


def _variable(variables: Mapping[str, str], name: str, section: str, field: str, *, is_platform: bool = False) -> Iterator[Given | Fault]:
    value, path = variables.get(name), variables.get(f"{name}_FILE")
    if value is not None and path is not None:
        yield Fault(f"environment variable {name}", f"{name}_FILE is set too: keep one of them")
    elif value is not None:
        yield Given(section, field, value, f"environment variable {name}", is_platform=is_platform)
    elif path is not None:
        try:
            content = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            yield Fault(f"environment variable {name}_FILE", f"cannot read {path}: {reason}")
            return
        yield Given(section, field, content, f"file {path} ({name}_FILE)", is_platform=is_platform)


def from_flags(flags: Mapping[str, str]) -> Iterator[Given]:
    """Read command line flags, given as `{"process.workers": "2"}`."""
    for name, value in flags.items():
        section, _, field = name.partition(".")
        yield Given(section, field, value, f"flag --{field.replace('_', '-')}")
