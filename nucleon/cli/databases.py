"""The PostgreSQL databases of an application: their settings, their migrations, and whether a service may start on them."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nucleon.config import EMBEDDED_ENVIRONMENTS, Config
from nucleon.errors import SetupError

if TYPE_CHECKING:
    from nucleon.cli.target import Target
    from nucleon.postgres import Settings


@dataclass(frozen=True, slots=True)
class Database:
    """One `Postgres` of the application. folder: its migrations, None when there are none; is_embedded: it is the project's own server."""

    name: str
    resource: Any
    settings: "Settings"
    folder: Path | None
    is_embedded: bool

    @property
    def place(self) -> str:
        """Where it is, for people: no password."""
        from nucleon.postgres.migrating import place_of

        return "the embedded server of this project" if self.is_embedded else place_of(self.settings)


def databases_of(application: Any, config: Config, target: "Target") -> list[Database]:
    """Return the databases of an application, in the order of their use."""
    found = []
    for name, resource in getattr(application, "resources", {}).items():
        if getattr(resource, "kind", None) == "postgres":
            from nucleon.postgres.migrating import folder_of

            settings = config.sections[name]
            folder = folder_of(settings, name, code_folder(target), target.project)
            found.append(Database(name, resource, settings, folder, config.origins.get((name, "dsn")) == "embedded"))
    return found


def code_folder(target: "Target") -> Path:
    """Return the folder of the application's module."""
    file = getattr(sys.modules.get(target.module), "__file__", None)
    return Path(file).resolve().parent if file else target.project


def watch_repeats(application: Any, config: Config) -> None:
    """Count statements that one request repeats; in development tell them in the log."""
    limits = {}
    for name, resource in getattr(application, "resources", {}).items():
        if getattr(resource, "kind", None) == "postgres" and config.sections[name].repeats_told:
            limits[name] = config.sections[name].repeats_told
    if limits:
        from nucleon.postgres.repeats import Repeats

        Repeats(limits, with_places=config.environment == "development")


def modules_of(target: "Target") -> list[ModuleType]:
    """Return the application's own modules that are imported: those below its package and its project, without installed ones."""
    code = code_folder(target)
    found = []
    for name, module in sorted(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "/")
        places = (code, target.project)
        if (
            file.suffix == ".py"
            and any(file.is_relative_to(place) for place in places)
            and name.partition(".")[0] not in ("nucleon", "__main__")
        ):
            below = file.relative_to(next(place for place in places if file.is_relative_to(place)))
            if not any(part.startswith(".") or part in ("site-packages", "tests") for part in below.parts):
                found.append(module)
    return found


def bring_up_to_date(application: Any, config: Config, target: "Target", *, announce: bool) -> None:
    """See that each database has the migrations of this code; apply them to embedded databases and in tests. Raises `SetupError`.

    announce: this is the start of the service, not a worker that is started again later.
    """
    for one in databases_of(application, config, target):
        if one.folder is not None:
            from nucleon.postgres.migrating import be_current

            may_apply = config.environment == "test" or (config.environment in EMBEDDED_ENVIRONMENTS and one.is_embedded)
            be_current(
                one.settings, one.folder, one.name, may_apply=may_apply, tell=_tell if announce else _silent, is_running=not announce
            )


def chosen(databases: list[Database], name: str | None) -> list[Database]:
    """Return the databases that have migrations, or the one that is named. Raises `SetupError` that says what to do when there is none."""
    if not databases:
        raise SetupError("this application uses no PostgreSQL: db = app.use(Postgres())")
    if name is None:
        return [one for one in databases if one.folder is not None] or [_without_folder(databases[0])]
    for one in databases:
        if one.name == name:
            return [one if one.folder is not None else _without_folder(one)]
    raise SetupError(f"there is no database {name!r}: known are {', '.join(one.name for one in databases)}")


def _without_folder(database: Database) -> Database:
    raise SetupError(f"[{database.name}] has no migrations yet: `nucleon db new create tables` writes the first")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(_line: str) -> None:
    return None
