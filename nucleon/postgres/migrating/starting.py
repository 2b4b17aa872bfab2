"""A service is about to start: does its code fit the schema?"""

import logging
from dataclasses import replace
from pathlib import Path

from nucleon.errors import SetupError
from nucleon.postgres.migrating.applying import standing, up
from nucleon.postgres.migrating.files import read
from nucleon.postgres.migrating.session import NoConnection, Tell
from nucleon.postgres.settings import Settings

log = logging.getLogger("nucleon.postgres")

FOLDER = "migrations"
APPLIED = ": applied in "  # told in one line for all; what is told besides (waiting, repairs) is told at once


def folder_of(settings: Settings, name: str, code: Path, project: Path) -> Path | None:
    """Return where the migrations of a resource are, or None when it has none.

    The setting `migrations` says it, from the project's folder; otherwise `migrations/` beside the application's code, then of the
    project. A resource that is not named "postgres" has its own below: `migrations/NAME`. Raises `SetupError` when the folder that
    the setting names is not there.
    """
    if settings.migrations:
        folder = project / settings.migrations
        if not folder.is_dir():
            raise SetupError(f"[{name}] migrations: there is no folder {folder}")
        return folder
    for place in (code, project):
        folder = place / FOLDER if name == "postgres" else place / FOLDER / name
        if folder.is_dir():
            return folder
    return None


def be_current(settings: Settings, folder: Path, name: str, *, may_apply: bool, tell: Tell, is_running: bool = False) -> None:
    """Make sure that the database has what the code's migrations say, with one look and no lock; apply what is pending if that is allowed.

    A database that cannot be reached does not keep a service from starting: it answers 503 until the database is back, and a warning
    says that the schema was not checked. is_running: the service runs already and only replaces a worker, so a newer schema (a
    deployment that is under way) is no reason to refuse. Raises `SetupError` that says what to run when code and schema disagree.
    """
    if not read(folder):
        return
    try:
        found = standing(settings, folder)
    except NoConnection as error:
        log.warning("[%s] the schema was not checked: %s", name, error)
        return
    if may_apply and found.pending and not list(found.hindrances()):
        applied = up(settings, folder, tell=lambda line: None if APPLIED in line else tell(f"[{name}] {line}"))
        if applied:
            names = applied[0].name if len(applied) == 1 else f"{applied[0].name} to {applied[-1].name}"
            tell(f"[{name}] applied {len(applied)} migration{'s' if len(applied) > 1 else ''}: {names}")
        return
    if found.unknown and (is_running or settings.migrations_newer == "allow"):
        log.warning("[%s] the database has %d migrations more than this code knows", name, len(found.unknown))
        found = replace(found, unknown=())
    if not found.is_current:
        raise SetupError("; ".join(f"[{name}] {one}" for one in (found.hindrances() if may_apply else found.disagreements())))
