"""Open and check connections: names resolved green, session options in the first packet."""

from collections.abc import Callable
from time import monotonic

import psycopg2
import psycopg2.extensions

from nucleon import green
from nucleon.errors import SetupError
from nucleon.pool import PermanentFailure
from nucleon.postgres.adapters import register_columns
from nucleon.postgres.connection import Connection, open_connection
from nucleon.postgres.errors import Away, is_permanent
from nucleon.postgres.settings import Settings


def opener(settings: Settings) -> Callable[[], Connection]:
    """Return what opens one connection for these settings."""

    def open_one() -> Connection:
        options = _options(settings)
        try:
            dsn = dsn_with_addresses(settings.dsn.reveal() if settings.dsn is not None else "")
            connection = open_connection(dsn, settings.connect_seconds, settings.cancel_grace_seconds, **options)
        except psycopg2.Error as error:
            if not is_permanent(error):
                raise
            problem = Away("the database refuses this service", retry_after_seconds=30)
            problem.__cause__ = error
            raise PermanentFailure(problem) from error
        register_columns(connection)
        return connection

    return open_one


def _options(settings: Settings) -> dict[str, str]:
    given = {
        "statement_timeout": settings.statement_timeout_seconds,
        "lock_timeout": settings.lock_timeout_seconds,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_seconds,
    }
    flags = " ".join(f"-c {name}={int(seconds * 1000)}" for name, seconds in given.items() if seconds)
    return {"options": flags, "application_name": settings.application_name} if flags else {"application_name": settings.application_name}


def dsn_with_addresses(dsn: str) -> str:
    """Return the DSN with `hostaddr` beside each host name: libpq would resolve names while the whole process waits.

    A name with several addresses becomes several hosts, tried in order. Raises `psycopg2.OperationalError` for unknown names.
    """
    try:
        parts = psycopg2.extensions.parse_dsn(dsn)
    except psycopg2.ProgrammingError:
        raise SetupError("postgres.dsn is not a connection string that libpq understands") from None
    if "hostaddr" in parts or not parts.get("host"):
        return dsn
    hosts = parts["host"].split(",")
    ports = parts.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    triples = [(host, address, port) for host, port in zip(hosts, ports, strict=True) for address in _addresses(host, port)]
    if not triples:
        raise psycopg2.OperationalError(f"could not resolve any of {parts['host']}")
    if all(not address for _, address, _ in triples):
        return dsn
    parts["host"] = ",".join(host for host, _, _ in triples)
    parts["hostaddr"] = ",".join(address for _, address, _ in triples)
    parts["port"] = ",".join(port for _, _, port in triples)
    made: str = psycopg2.extensions.make_dsn(**parts)
    return made


def _addresses(host: str, port: str) -> list[str]:
    if not host or host.startswith(("/", "@")):
        return [""]
    try:
        return list(dict.fromkeys(str(entry[4][0]) for entry in green.resolve(host, int(port or 5432))))
    except OSError:
        return []


def check(connection: Connection, seconds: float) -> None:
    """Prove with a round trip, within `seconds`, that the server answers. Raises when not."""
    connection.grace_ends_at = monotonic() + seconds
    try:
        cursor = connection.cursor()
        try:
            cursor.execute("select")
        finally:
            cursor.close()
    finally:
        connection.grace_ends_at = None
    if connection.closed or connection.suspect:
        raise psycopg2.OperationalError("the connection is dead")
