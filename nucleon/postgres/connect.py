"""Open and check connections: each address by itself, session options in the first packet."""

import math
from collections.abc import Callable
from time import monotonic
from typing import Any

import psycopg2
import psycopg2.extensions

from nucleon.errors import DeadlineExceeded, SetupError
from nucleon.pool import PermanentFailure
from nucleon.postgres.adapters import register_columns
from nucleon.postgres.connection import Connection, open_connection
from nucleon.postgres.direct import prepare
from nucleon.postgres.errors import Away, is_permanent
from nucleon.postgres.hosts import Conninfo
from nucleon.postgres.settings import Settings

Setup = Callable[[psycopg2.extensions.connection], object]

class ConnectFailed(psycopg2.OperationalError):
    """No address gave a connection; its text says why, for each. is_permanent: each would refuse again (password, name, certificate)."""

    is_permanent = False


LEAST_CONNECT_SECONDS = 0.5  # what an address gets even when those before it were slow


def opener(settings: Settings, setup: Setup | None = None, dsn: str | None = None) -> Callable[[], Connection]:
    """Return what opens one connection for these settings. setup: called with each new connection. dsn: instead of the settings'."""
    text = dsn if dsn is not None else settings.dsn.reveal() if settings.dsn is not None else ""

    def open_one() -> Connection:
        try:
            connection = connect(text, settings)
        except (ConnectFailed, SetupError) as error:
            if isinstance(error, ConnectFailed) and not error.is_permanent:
                raise
            problem = Away("the database refuses this service", retry_after_seconds=30)
            problem.__cause__ = error
            raise PermanentFailure(problem) from error
        try:
            register_columns(connection)
            if setup is not None:
                set_up(connection, setup, settings.connect_seconds)
        except BaseException:
            connection.shut()
            raise
        return connection

    return open_one


def connect(dsn: str, settings: Settings) -> Connection:
    """Connect to the first address that answers as wanted, within `connect_seconds` for all of them.

    Raises `ConnectFailed` that names every address and what was wrong with it; `SetupError` for a broken `dsn`.
    """
    conninfo = Conninfo(dsn)
    ends = monotonic() + settings.connect_seconds
    addresses = conninfo.addresses(settings.connect_seconds)
    wanted = conninfo.get("target_session_attrs", "any")
    tries = [(address, "standby" if wanted == "prefer-standby" else wanted) for address in addresses]
    if wanted == "prefer-standby":
        tries += [(address, "any") for address in addresses]
    errors: dict[str, bool] = {}
    for at, (address, attributes) in enumerate(tries):
        share = max((ends - monotonic()) / (len(tries) - at), min(LEAST_CONNECT_SECONDS, settings.connect_seconds))
        try:
            return _connect_to(conninfo, address, attributes, share, settings)
        except psycopg2.Error as error:
            where = " ".join(dict.fromkeys(address.values())) or "the default socket"
            errors[f"{where}: {' '.join(str(error).split())}"] = is_permanent(error)
    failed = ConnectFailed("; ".join(errors))
    failed.is_permanent = all(errors.values())
    raise failed


def _connect_to(conninfo: Conninfo, address: dict[str, str], attributes: str, share: float, settings: Settings) -> Connection:
    given = conninfo.get("connect_timeout", "")
    own = int(given) if given.isdecimal() else 0  # libpq: zero, negative, or not specified means wait indefinitely; we never do
    seconds = min(share, own) if own else share
    dsn = conninfo.dsn_with(
        **address, **_options(settings, conninfo), target_session_attrs=attributes, load_balance_hosts="disable",
        connect_timeout=str(own or max(2, math.ceil(settings.connect_seconds))),  # of the cancel requests; libpq's least is 2
    )  # fmt: skip
    try:
        connection = open_connection(dsn, seconds, settings.cancel_grace_seconds)
    except DeadlineExceeded:
        raise psycopg2.OperationalError(f"no connection within {seconds:.1f} s") from None
    prepare(connection)
    return connection


def _options(settings: Settings, conninfo: Conninfo) -> dict[str, str]:
    """Return the session's settings; what the connection string says goes over them."""
    given = {
        "statement_timeout": settings.statement_timeout_seconds,
        "lock_timeout": settings.lock_timeout_seconds,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_seconds,
    }
    flags = [f"-c {name}={int(seconds * 1000)}" for name, seconds in given.items() if seconds]
    options = " ".join([*flags, conninfo.get("options", "")]).strip()
    made = {"fallback_application_name": "nucleon", "options": options}
    if settings.application_name:
        made["application_name"] = settings.application_name
    return made


def set_up(connection: Connection, setup: Setup, seconds: float) -> None:
    """Call the service's own `setup` with a connection, for at most `seconds`. Raises what it raises."""
    with_deadline(connection, seconds, lambda: setup(connection))
    if connection.closed or connection.get_transaction_status() != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
        raise psycopg2.OperationalError("setup= left a transaction open, or closed the connection")
    connection.autocommit = True


def check(connection: Connection, seconds: float) -> None:
    """Prove with a round trip, within `seconds`, that the server answers. Raises when not."""
    with_deadline(connection, seconds, lambda: _ask(connection))
    if connection.closed or connection.suspect:
        raise psycopg2.OperationalError("the connection is dead")


def _ask(connection: Connection) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute("select")
    finally:
        cursor.close()


def with_deadline(connection: Connection, seconds: float, action: Callable[[], Any]) -> None:
    """Run statements on a connection within `seconds`, whatever the deadline of the surrounding work."""
    connection.grace_ends_at = monotonic() + seconds
    try:
        action()
    finally:
        connection.grace_ends_at = None
