"""Where to connect: libpq's hosts, service file and environment, with names resolved green.

libpq would resolve names while the whole process waits, and its non-blocking connect has no time-out for each host:
a first host that is a black hole would take the time of all. So each address is tried by itself, in libpq's order.
"""

import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gevent
import psycopg2
import psycopg2.extensions

from nucleon import green
from nucleon.errors import SetupError

VARIABLES = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "service": "PGSERVICE", "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS", "load_balance_hosts": "PGLOADBALANCEHOSTS", "options": "PGOPTIONS",
}  # fmt: skip


class Conninfo(Mapping[str, str]):
    """A connection string, and behind it the service file and the environment, as libpq reads them (manual, 34.1.2, 34.15, 34.17).

    Raises `SetupError` when it is not a connection string; its text is not shown, it may hold a password.
    """

    def __init__(self, dsn: str) -> None:
        try:
            self._own: dict[str, str] = psycopg2.extensions.parse_dsn(dsn)
        except psycopg2.ProgrammingError:
            raise SetupError("postgres.dsn is not a connection string that libpq understands") from None
        name = self._own.get("service") or os.environ.get("PGSERVICE")
        self._service = service_named(name) if name else {}

    def __getitem__(self, key: str) -> str:
        for source in (self._own, self._service):
            if source.get(key):
                return source[key]
        value = os.environ.get(VARIABLES.get(key, ""))
        if not value:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter({**self._service, **self._own})

    def __len__(self) -> int:
        return len({**self._service, **self._own})

    def dsn_with(self, **changes: str) -> str:
        """Return the connection string with other values."""
        made: str = psycopg2.extensions.make_dsn(**{**self._own, **changes})
        return made

    def addresses(self, seconds: float) -> list[dict[str, str]]:
        """Return host, hostaddr and port of every address, in the order of trying; resolving takes at most `seconds`.

        Raises `psycopg2.OperationalError` when no name can be resolved.
        """
        hosts, given = self._listed("host"), self._listed("hostaddr")
        if not hosts and not given:
            return [{}]
        hosts = hosts or [""] * len(given)
        ports = self._listed("port") or ["5432"]
        if len(ports) == 1:
            ports *= len(hosts)
        if len(ports) != len(hosts) or (given and len(given) != len(hosts)):
            raise SetupError("postgres.dsn: host, hostaddr and port are lists of the same length, or one port for all")
        found: list[dict[str, str]] = []
        unknown: list[str] = []
        for at, (host, port) in enumerate(zip(hosts, ports, strict=True)):
            known = [given[at]] if given and given[at] else _resolved(host, port or "5432", seconds, unknown)
            found += [_without_empty(host=host, hostaddr=address, port=port) for address in known]
        if not found:
            raise psycopg2.OperationalError("; ".join(unknown))
        if self.get("load_balance_hosts") == "random":
            random.shuffle(found)
        return found

    def _listed(self, key: str) -> list[str]:
        value = self.get(key)
        return value.split(",") if value else []


def service_named(name: str) -> dict[str, str]:
    """Return what the service file says about a service; {} when nothing does (libpq tells so when it connects)."""
    own = os.environ.get("PGSERVICEFILE") or str(Path.home() / ".pg_service.conf")
    shared = os.environ.get("PGSYSCONFDIR")
    for file in [own] + ([f"{shared}/pg_service.conf"] if shared else []):
        try:
            text = Path(file).read_text()
        except OSError:
            continue
        section, found, values = "", False, {}
        for line in (line.strip() for line in text.splitlines()):
            if line.startswith("["):
                section = line[1:].partition("]")[0]
                found = found or section == name
            elif section == name and "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                values[key.strip()] = value.strip()
        if found:
            return values
    return {}


def _resolved(host: str, port: str, seconds: float, unknown: list[str]) -> list[str]:
    if not host or host.startswith(("/", "@")):
        return [""]
    try:
        with gevent.Timeout(seconds, TimeoutError(f"no answer within {seconds:g} s")):
            return list(dict.fromkeys(str(entry[4][0]) for entry in green.resolve(host, int(port))))
    except (OSError, UnicodeError) as error:  # a name with empty or overlong labels is a UnicodeError
        unknown.append(f'could not resolve host name "{host}": {getattr(error, "strerror", None) or error}')
        return []


def _without_empty(**values: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}
