"""All sources laid over each other, typed, with every fault at once."""

import dataclasses
import difflib
import os
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nucleon.config.environment import checked_name, environment_name, refuse_unknown
from nucleon.config.sources import Fault, Given, from_file, from_flags, from_variables
from nucleon.config.typing import convert, is_secret
from nucleon.errors import SetupError
from nucleon.secret import Secret


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one process: a frozen `Settings` for each section, and where each value came from."""

    environment: str
    folder: Path | None
    sections: Mapping[str, Any]
    origins: Mapping[tuple[str, str], str]

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Give section, field, value and origin of every setting; secrets are masked."""
        for section, settings in self.sections.items():
            for field in dataclasses.fields(settings):
                value = getattr(settings, field.name)
                shown = "***" if isinstance(value, Secret) else repr(value)
                yield section, field.name, shown, self.origins.get((section, field.name), "default")


def load(
    types: Mapping[str, type],
    *,
    environment: str | None = None,
    folder: Path | None = None,
    flags: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    is_open: bool = False,
) -> Config:
    """Fill each of `types` (section name to frozen dataclass) from files, environment variables and flags, the last wins.

    environment: its name; None reads NUCLEON_ENV. Either way it is fixed for the process at the first read.
    folder: holds `default.toml` and `<environment>.toml`; None or a folder that is not there: no files.
    variables: instead of `os.environ`; nothing global is then read or fixed.
    is_open: sections that nobody knows are somebody else's (a foreign WSGI app's), not faults.

    Raises `SetupError` that lists every fault with its file and line, variable or flag.
    """
    if variables is None:
        name, variables = environment_name(environment), os.environ
    else:
        name = checked_name(environment or variables.get("NUCLEON_ENV") or "development")
    folder = folder if folder is not None and folder.is_dir() else None
    refuse_unknown(name, folder)
    given, faults = _gathered(types, _sources(name, folder, flags or {}, variables), is_open)
    sections: dict[str, Any] = {}
    origins: dict[tuple[str, str], str] = {}
    for section, kind in types.items():
        filled = _filled(section, kind, given.get(section, {}), faults)
        if filled is not None:
            sections[section] = filled
            origins.update({(section, field): one.origin for field, one in given.get(section, {}).items()})
    if faults:
        raise SetupError("; ".join(str(fault) for fault in faults))
    return Config(name, folder, sections, origins)


def _sources(name: str, folder: Path | None, flags: Mapping[str, str], variables: Mapping[str, str]) -> Iterator[Given | Fault]:
    if folder is not None:
        for file in ("default.toml", f"{name}.toml"):
            yield from from_file(folder / file, f"{folder.name}/{file}")
    yield from from_variables(variables, name)
    yield from from_flags(flags)


def _gathered(
    types: Mapping[str, type], sources: Iterable[Given | Fault], is_open: bool
) -> tuple[dict[str, dict[str, Given]], list[Fault]]:
    """Return the last value of each known setting, and the faults: unknown names, unreadable sources."""
    given: dict[str, dict[str, Given]] = {}
    faults: list[Fault] = []
    sections = {section.lower().replace("-", "_"): section for section in types}
    strange: set[str] = set()  # one fault for each unknown section, not for each of its lines
    for one in sources:
        if isinstance(one, Fault):
            faults.append(one)
            continue
        section = one.section if one.section in types else sections.get(one.section, "")
        if not section:
            if not (is_open or one.is_platform or one.section in strange):
                strange.add(one.section)
                faults.append(Fault(one.origin, f"unknown section [{one.section}]{_nearest(one.section, types)}"))
            continue
        fields = [field.name for field in dataclasses.fields(types[section])]
        if one.field in fields:
            given.setdefault(section, {})[one.field] = one
        elif one.field and not one.is_platform:
            faults.append(Fault(one.origin, f"unknown setting {one.field!r} in [{section}]{_nearest(one.field, fields)}"))
    return given, faults


def _nearest(name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    found = difflib.get_close_matches(name, known, n=1)
    if found:
        return f", did you mean {found[0]!r}?"
    return f", known are {', '.join(known)}" if known else ""


def _filled(section: str, kind: type, given: Mapping[str, Given], faults: list[Fault]) -> Any:
    """Return the section's settings, or None after adding what is wrong to `faults`."""
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    before = len(faults)
    for field in dataclasses.fields(kind):
        one = given.get(field.name)
        if one is None:
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                variable = f"NUCLEON_{section.upper().replace('-', '_')}__{field.name.upper()}"
                faults.append(Fault(f"[{section}] {field.name}", f"is not set: write it in config/ or set {variable}"))
            continue
        try:
            values[field.name] = convert(one, hints[field.name])
        except ValueError as error:
            faults.append(Fault(one.origin, f"[{section}] {field.name}: {error}"))
    if len(faults) > before:
        return None
    try:
        return kind(**values)
    except (ValueError, TypeError, SetupError) as error:
        holds_secret = any(is_secret(hints[name]) for name in values)
        what = "the values do not fit together" if holds_secret and not isinstance(error, SetupError) else str(error)
        told = [one for name, one in given.items() if re.search(rf"\b{name}\b", what)] or given.values()  # those that it is about
        origins = ", ".join(dict.fromkeys(one.origin for one in told)) or f"[{section}]"
        faults.append(Fault(origins, f"[{section}]: {what}"))
        return None
