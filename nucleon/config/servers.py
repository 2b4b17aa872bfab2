"""Which servers an app needs and has not been told of."""

import dataclasses
import typing
from collections.abc import Collection, Mapping
from typing import Any

from nucleon.config.loading import Config
from nucleon.config.sources import URLS
from nucleon.config.typing import is_secret, may_be_none
from nucleon.errors import SetupError
from nucleon.secret import Secret

EMBEDDED_ENVIRONMENTS = ("development", "test")
"""Where embedded servers may stand in for missing ones; everywhere else a missing server is an error."""

ADDRESS_FIELDS = ("dsn", "url")


def missing_servers(config: Config) -> list[tuple[str, str]]:
    """Return (section, field) of each server address that is not set."""
    missing = []
    for section, settings in config.sections.items():
        hints = typing.get_type_hints(type(settings))
        for name in ADDRESS_FIELDS:
            hint = hints.get(name)
            if hint is not None and is_secret(hint) and may_be_none(hint) and getattr(settings, name) is None:
                missing.append((section, name))
    return missing


def with_servers(config: Config, addresses: Mapping[tuple[str, str], str], origin: str) -> Config:
    """Return the config with the given server addresses filled in, all from `origin`."""
    sections: dict[str, Any] = dict(config.sections)
    for (section, field), address in addresses.items():
        sections[section] = dataclasses.replace(sections[section], **{field: Secret(address)})
    return dataclasses.replace(config, sections=sections, origins={**config.origins, **dict.fromkeys(addresses, origin)})


def refuse_missing_servers(config: Config, optional: Collection[str] = ()) -> None:
    """Raise `SetupError` that names the setting of every server that is not set. optional: sections that need none."""
    missing = [(section, field) for section, field in missing_servers(config) if section not in optional]
    if not missing:
        return
    usual = {setting: name for name, setting in URLS.items()}
    prefix = "NUCLEON_TEST_" if config.environment == "test" else "NUCLEON_"
    wanted = []
    for section, field in missing:
        variable = f"{prefix}{section.upper().replace('-', '_')}__{field.upper()}"
        if config.environment != "test" and (section, field) in usual:
            variable = f"{usual[section, field]} or {variable}"
        wanted.append(f"[{section}] {field} (set {variable}, or the file config/{config.environment}.toml)")
    needs_broker = any(type(config.sections[section]).__module__.startswith("nucleon.amqp.") for section, _field in missing)
    hint = "; `nucleon embedded rabbitmq` runs one" if needs_broker and config.environment in EMBEDDED_ENVIRONMENTS else ""
    raise SetupError(f"environment {config.environment!r} has no server for {'; '.join(wanted)}{hint}")
