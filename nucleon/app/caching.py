"""How long others may keep an answer: Cache-Control (RFC 9111)."""

import re
from collections.abc import Callable

from nucleon.message import Request, Response

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_from(cache: int | str) -> int:
    """Return the seconds of `60`, `"60s"`, `"5m"`, `"1h"` or `"1d"`. Raises ValueError for anything else, and for none at all."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", str(cache))
    seconds = int(found[1]) * UNITS[found[2]] if found is not None else 0
    if seconds == 0 or isinstance(cache, bool):
        raise ValueError(f'cache= is whole seconds above 0, or such as "60s", "5m", "1h", "1d", or cache.answers(...), not {cache!r}')
    return seconds


def cached(answer: Callable[[Request], Response], cache: int | str, is_private: bool) -> Callable[[Request], Response]:
    """Return a route's answer with Cache-Control on what GET and HEAD give; a handler's own Cache-Control stays."""
    directive = f"{'private, ' if is_private else ''}max-age={seconds_from(cache)}"

    def answer_cached(request: Request) -> Response:
        response = answer(request)
        is_good = response.status < 300 or response.status == 304
        if is_good and request.method in ("GET", "HEAD") and response.header("Cache-Control") is None:
            response.headers = [*response.headers, ("Cache-Control", directive)]
        return response

    return answer_cached
