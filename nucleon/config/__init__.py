"""The only reader of files and environment variables: fills the rooms' frozen `Settings` and says where each value came from."""

from nucleon.config.configuring import configure, house_types, master_types
from nucleon.config.environment import environment_name
from nucleon.config.loading import Config, load
from nucleon.config.logs import Settings as LogSettings
from nucleon.config.logs import start_logging
from nucleon.config.servers import EMBEDDED_ENVIRONMENTS, missing_servers, refuse_missing_servers, with_servers

__all__ = [
    "EMBEDDED_ENVIRONMENTS",
    "Config",
    "LogSettings",
    "configure",
    "environment_name",
    "house_types",
    "load",
    "master_types",
    "missing_servers",
    "refuse_missing_servers",
    "start_logging",
    "with_servers",
]
