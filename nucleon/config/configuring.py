"""Settings for an app that another WSGI server runs (gunicorn, mod_wsgi), and the sections every program has."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nucleon.config import listen, logs
from nucleon.config.loading import Config, load
from nucleon.config.servers import refuse_missing_servers

if TYPE_CHECKING:
    from nucleon.app import App


def house_types() -> dict[str, type]:
    """Return the sections that every program has. Loads gevent, by way of the server."""
    from nucleon import server

    return {"server": server.Settings, **master_types()}


def master_types() -> dict[str, type]:
    """Return the sections that the master reads before it forks; loads no gevent."""
    from nucleon import process

    return {"listen": listen.Settings, "process": process.Settings, "log": logs.Settings}


def configure(
    app: "App", *, environment: str | None = None, folder: Path | str | None = None, flags: Mapping[str, str] | None = None
) -> Config:
    """Load the settings and hand them to `app`, for a WSGI server that is not ours: `application = app; configure(app)`.

    folder: where default.toml and <environment>.toml are; None: `config` in the current folder. Embedded servers are not
    started here: a server that is not configured is an error that names the setting. Raises `SetupError`.
    """
    types = {**house_types(), **app.settings_types()}
    where = Path("config") if folder is None else Path(folder)
    config = load(types, environment=environment, folder=where, flags=flags)
    refuse_missing_servers(config, app.optional)
    app.configure(config.sections)
    return config
