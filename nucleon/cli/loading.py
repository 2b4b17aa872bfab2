"""The steps between a command line and a configured application; every command takes the same."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nucleon import green
from nucleon.cli.databases import Database, bring_up_to_date, databases_of, watch_repeats
from nucleon.cli.target import Target, application_from, target_from
from nucleon.config import (
    EMBEDDED_ENVIRONMENTS,
    Config,
    house_types,
    load,
    missing_servers,
    refuse_missing_servers,
    start_logging,
    with_servers,
)
from nucleon.errors import SetupError


@dataclass(frozen=True, slots=True)
class Ask:
    """What the command line asked for, before anything is imported."""

    target: Target
    environment: str | None = None
    folder: Path | None = None
    flags: Mapping[str, str] | None = None

    @property
    def config_folder(self) -> Path:
        """Where the settings are: --config, else config/ of the project, else config/ here."""
        if self.folder is not None:
            return self.folder
        ours = self.target.project / "config"
        return ours if ours.is_dir() else Path.cwd() / "config"


@dataclass(frozen=True, slots=True)
class Program:
    """An application with its settings. `is_ours`: it is a nucleon App, not some other WSGI callable."""

    application: Any
    config: Config
    is_ours: bool


def ask_from(text: str | None, environment: str | None, folder: str | None, flags: Mapping[str, str] | None = None) -> Ask:
    """Resolve the target and refuse a --config folder that is not there."""
    if folder is not None and not Path(folder).is_dir():
        raise SetupError(f"--config {folder}: there is no such folder")
    return Ask(target_from(text), environment, None if folder is None else Path(folder).resolve(), flags)


def imported(ask: Ask) -> Any:
    """Patch the standard library, then import the application."""
    green.patch()
    return application_from(ask.target)


def is_ours(application: Any) -> bool:
    """Tell whether the application is a nucleon App."""
    return hasattr(application, "settings_types") and hasattr(application, "respond")


def settings_of(application: Any, ask: Ask) -> Config:
    """Load the settings of the house and of the application's resources; starts nothing."""
    ours = is_ours(application)
    types = {**house_types(), **(application.settings_types() if ours else {})}
    return load(types, environment=ask.environment, folder=ask.config_folder, flags=ask.flags, is_open=not ours)


def prepared(ask: Ask, *, announce: bool = True, with_schema: bool = True, only_databases: bool = False) -> Program:
    """Import the application, load its settings, start what development lacks, configure and check it. Raises `SetupError`.

    with_schema: see that the databases have the migrations of this code, too. only_databases: servers of other rooms may be missing, as in
    a step of a deployment that migrates and knows nothing else.
    """
    application = imported(ask)
    config = settings_of(application, ask)
    start_logging(config.sections["log"])
    ours = is_ours(application)
    if ours:
        config = with_embedded(config, ask.target.project, announce=announce)
        others = {name for name, one in application.resources.items() if only_databases and getattr(one, "kind", None) != "postgres"}
        refuse_missing_servers(config, application.optional | others)
        if announce and not only_databases:
            tell_what_is_off(application, config)
        application.configure(config.sections)
        application.check()
        if with_schema:
            bring_up_to_date(application, config, ask.target, announce=announce)
        watch_repeats(application, config)
    return Program(application, config, ours)


def databases_in(ask: Ask) -> list[Database]:
    """Return the PostgreSQL databases of the application, as they are; missing servers are started in development. Raises `SetupError`."""
    program = prepared(ask, announce=False, with_schema=False, only_databases=True)
    return databases_of(program.application, program.config, ask.target)


def with_embedded(config: Config, project: Path, *, announce: bool) -> Config:
    """In development and test, start embedded servers for the addresses that nobody set."""
    missing = missing_servers(config)
    if not missing or config.environment not in EMBEDDED_ENVIRONMENTS:
        return config
    from nucleon import embedded

    place = project / ".nucleon" / "test" if config.environment == "test" else project
    place.mkdir(parents=True, exist_ok=True)  # tests have servers of their own beside the development data
    offered: dict[str, str] = {}
    if any(room_of(config, section) != "amqp" for section, _field in missing):
        services = embedded.acquire(place, environment=config.environment)
        offered = {"postgres": services.postgres_dsn, "redis": services.redis_url}
    broker = embedded.running_rabbitmq(place / ".nucleon")  # only `nucleon embedded rabbitmq` starts it
    if broker is not None:
        offered["amqp"] = broker
    addresses = {}
    for section, field in missing:
        room = room_of(config, section)
        if room in offered:
            addresses[section, field] = offered[room]
    if announce and addresses:
        names = " and ".join(f"[{section}]" for section, _field in addresses)
        print(f"{names}: embedded servers for this project, data in {place / '.nucleon'}", file=sys.stderr, flush=True)
    logging.getLogger("nucleon").debug("embedded servers: %s", ", ".join(offered))
    return with_servers(config, addresses, "embedded")


def room_of(config: Config, section: str) -> str:
    """Return the room whose settings a section has: postgres, redis, amqp."""
    return type(config.sections[section]).__module__.split(".")[1]


def tell_what_is_off(application: Any, config: Config) -> None:
    """Say on standard error which optional servers are not set, and what does not run therefore."""
    for section, field in missing_servers(config):
        if section not in application.optional:
            continue
        idle = [one.queue for one in application.consumers.registered] if room_of(config, section) == "amqp" else []
        without = f"; no consumer runs ({', '.join(idle)})" if idle else ""
        hint = ", or run `nucleon embedded rabbitmq`" if idle and config.environment in EMBEDDED_ENVIRONMENTS else ""
        variable = f"NUCLEON_{section.upper().replace('-', '_')}__{field.upper()}"
        print(f"[{section}] {field} is not set: the service runs without it{without}; set {variable}{hint}", file=sys.stderr, flush=True)


@contextmanager
def running(ask: Ask) -> Iterator[tuple[Any, Any]]:
    """Start the application as a worker would, without a server, and give it with an open scope."""
    program = prepared(ask)
    application = program.application
    if not program.is_ours:
        raise SetupError(f"{ask.target} is a foreign WSGI application: only a nucleon App has a scope")
    application.start()
    try:
        with application.scope() as scope:
            yield application, scope
    finally:
        application.stop()
