"""`transaction=`: one database transaction around a route's providers, handler and answer."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from nucleon.binding import Call
from nucleon.errors import SetupError

Begin: TypeAlias = Callable[[Call], None]


class Transactional(Protocol):
    """A resource that can run a route in a transaction; what it begins costs nothing until the first statement."""

    def route_transaction(self, *, read_only: bool) -> AbstractContextManager[object]: ...


def beginning(wanted: bool | str | None, resources: Mapping[type, Mapping[str, Any]]) -> Begin | None:
    """Return what opens the transaction of a request; None when none is wanted. Raises `SetupError` when it cannot be had."""
    if not wanted:
        return None
    able = {name: one for named in resources.values() for name, one in named.items() if hasattr(one, "route_transaction")}
    if wanted is not True and wanted not in able:
        raise SetupError(f"transaction={wanted!r} names no database of the app; it has {', '.join(able) or 'none'}")
    if wanted is True and len(able) != 1:
        raise SetupError(f"transaction=True needs one database, and the app has {', '.join(able) or 'none'}: name it, transaction=...")
    database: Transactional = able[wanted] if isinstance(wanted, str) else next(iter(able.values()))
    return lambda call: _begin(database, call)


def _begin(database: Transactional, call: Call) -> None:
    block = database.route_transaction(read_only=call.request.method in ("GET", "HEAD"))
    block.__enter__()

    def end(error: BaseException | None) -> None:
        if error is None and call.is_cut_off:
            error = GeneratorExit()  # the client did not wait for the end of the stream
        if error is None:
            block.__exit__(None, None, None)
        else:
            block.__exit__(type(error), error, error.__traceback__)

    call.cleanups = [*(call.cleanups or ()), end]
