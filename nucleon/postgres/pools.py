"""The pools of a `Postgres`: the primary's, and one for each replica."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nucleon.pool import Limits, Pool
from nucleon.postgres.connect import Setup, check, opener
from nucleon.postgres.connection import Connection, is_alive
from nucleon.postgres.replicas import ReplicatedPool
from nucleon.postgres.session import cleaner
from nucleon.postgres.settings import Settings

REPLICA_WAIT_SECONDS = 1.0  # a read that a replica has no connection for goes elsewhere


def pool_from(settings: Settings, name: str, setup: Setup | None) -> Pool:
    """Return the pool for these settings; with replicas one that knows them."""
    limits = Limits(**{key: getattr(settings, key) for key in Limits.__dataclass_fields__ if hasattr(settings, key)})
    how: dict[str, Any] = {
        "close": Connection.shut, "is_alive": is_alive, "check": check, "reset": cleaner(settings.reset == "always", setup),
    }  # fmt: skip
    create = opener(settings, setup)
    if not settings.replicas:
        return Pool(name=name, create=create, limits=limits, **how)
    hurried = replace(limits, minimum=0, bridge_seconds=0.0, wait_seconds=min(limits.wait_seconds, REPLICA_WAIT_SECONDS))
    replicas = [
        Pool(name=f"{name} replica {number}", create=_replica_opener(opener(settings, setup, dsn.reveal())), limits=hurried, **how)
        for number, dsn in enumerate(settings.replicas, start=1)
    ]
    return ReplicatedPool(
        replicas, lag_seconds=settings.replica_lag_seconds, check_seconds=settings.replica_check_seconds,
        name=name, create=create, limits=limits, **how,
    )  # fmt: skip


def _replica_opener(create: Callable[[], Connection]) -> Callable[[], Connection]:
    def open_one() -> Connection:
        connection = create()
        connection.is_replica = True
        return connection

    return open_one
