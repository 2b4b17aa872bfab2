"""What a route may say beside its path; groups hand it down, the nearest wins."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from nucleon.app.caching import seconds_from
from nucleon.app.idempotent import Idempotency
from nucleon.app.limiting import Rate
from nucleon.app.storing import Store


@dataclass(frozen=True, slots=True)
class Limits:
    """body_bytes: the largest request body; more is a 413."""

    body_bytes: int


class Extras(TypedDict, total=False):
    """deadline: seconds that a request may take. status: of a successful answer. tags: for the documentation.

    limits: of the request: `Limits`, rates such as `cache.rate(...)`, or several of these. auth: a function like a provider's, called
    before the body is read; it raises (`Unauthorized`, `Forbidden`) or returns; the handler may take what it returns, by type.
    `auth=None` lifts a group's.
    scopes: that the `scopes` of what auth returns must all hold.
    cache: how long a GET's answer may be kept by others: seconds or "60s", "5m", "1h", "1d"; or a store that keeps it here, such as
    `cache.answers(ttl_seconds=60)`. idempotent: a repeated Idempotency-Key gets the first answer: True, or a store of keys such as
    `cache.idempotency()`. transaction: True, or the name of the database: providers, handler and answer are one transaction, read-only for
    GET and HEAD, committed before the first byte of the answer (of a stream: after its last). read_only: a GET that only reads,
    from a replica when there is one. version: "v1" puts /v1 before the whole path.
    """

    deadline: float | None
    status: int | None
    tags: Sequence[str]
    limits: Limits | Rate | Sequence[Limits | Rate] | None
    auth: Callable[..., Any] | None
    scopes: Sequence[str]
    cache: int | str | Store | None
    idempotent: bool | Idempotency
    transaction: bool | str | None
    version: str | None
    read_only: bool


KNOWN = frozenset(Extras.__annotations__)


def merged(outer: Extras, inner: Mapping[str, Any], where: str) -> Extras:
    """Return the extras of a route or group inside another. Raises TypeError for one that does not exist."""
    unknown = sorted(set(inner) - KNOWN)
    if unknown:
        raise TypeError(f"{where}: there is no extra {', '.join(unknown)}; there are {', '.join(sorted(KNOWN))}")
    if "limits" in inner:
        inner = {**inner, "limits": _limits_within(outer.get("limits"), inner["limits"], where)}
    result: Extras = {**outer, **inner}  # type: ignore[typeddict-item]
    deadline = result.get("deadline")
    if deadline is not None and deadline <= 0:
        raise TypeError(f"{where}: deadline= is a number of seconds above 0, not {deadline}")
    if isinstance(result.get("scopes"), str):
        raise TypeError(f'{where}: scopes= is a tuple of names, such as ("orders:write",), not one str')
    cache = result.get("cache")
    if cache is not None and not (hasattr(cache, "get_or") and hasattr(cache, "by")):
        try:
            seconds_from(cache)
        except ValueError as error:
            raise TypeError(f"{where}: {error}") from None
    idempotent = result.get("idempotent")
    if not isinstance(idempotent, bool | None) and not hasattr(idempotent, "begin"):
        raise TypeError(f"{where}: idempotent= is True or a store of keys such as cache.idempotency(), not {idempotent!r}")
    version = result.get("version")
    if version is not None and (not isinstance(version, str) or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", version) is None):
        raise TypeError(f'{where}: version= is one segment of a path, such as "v1", not {version!r}')
    return result


def listed(limits: Limits | Rate | Sequence[Limits | Rate] | None) -> list[Limits | Rate]:
    """Return limits as a list, however they were given."""
    if limits is None:
        return []
    return list(limits) if isinstance(limits, Sequence) and not isinstance(limits, str) else [limits]


def _limits_within(outer: Any, inner: Any, where: str) -> list[Limits | Rate] | None:
    """Return a route's limits inside its group's: the nearest body size holds, a rate replaces one of its name, others come on top."""
    for one in listed(inner):
        if not isinstance(one, Limits) and not hasattr(one, "take"):
            raise TypeError(f"{where}: limits= takes Limits(...) and rates such as cache.rate(...), not {one!r}")
    if inner is None:
        return None
    named = {_name_of(one): one for one in (*listed(outer), *listed(inner))}
    return list(named.values())


def _name_of(limit: Any) -> str | None:
    return None if isinstance(limit, Limits) else limit.name
