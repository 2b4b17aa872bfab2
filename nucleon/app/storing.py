"""`cache=` with a store: a good answer to a GET is kept and given again, without the handler."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, get_origin
from urllib.parse import urlencode

from nucleon.app.inside import Step, Visit, identity_of
from nucleon.binding import Plan
from nucleon.binding.answers import STREAMS
from nucleon.binding.call import fields_from
from nucleon.binding.kinds import fields_of, is_record, members
from nucleon.binding.preconditions import is_not_modified
from nucleon.errors import Problem, SetupError
from nucleon.message import Events, Headers
from nucleon.message.request import Request
from nucleon.message.response import Response

_OF_304 = frozenset({"cache-control", "content-location", "etag", "expires", "vary"})
"""What the whole answer would say has to stand in a 304, too (RFC 9110 15.4.5)."""
PATHS, LONGEST_PATH = 1000, 200
"""So many paths of so many characters at most have their key remembered, for each route."""


class Stored(Protocol):
    """A kept answer; `at`: when it was made, in seconds since the epoch."""

    @property
    def headers(self) -> list[tuple[str, str]]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def at(self) -> float: ...


class Store(Protocol):
    """Where answers are kept, such as `nucleon.redis.Answers`. by: whose they are; client_seconds: for Cache-Control."""

    by: Any
    client_seconds: int
    clock: Callable[[], float]

    def get_or(self, key: str, load: Callable[[], tuple[list[tuple[str, str]], bytes]]) -> Any: ...
    def key(self, path: str, query: str = "", who: object = "") -> str: ...


class _NotKept(Problem):
    """No error: the answer is no 200, or says itself that it is not for others. An old answer must not stand in for it."""

    status = 200


def storing(store: Store, returns: Any, plan: Plan, has_auth: bool) -> Step:
    """Return the step that keeps a route's answers. Raises `SetupError` when it cannot know whose they are, or for a stream."""
    owner = get_origin(returns) or returns
    if owner in (Events, *STREAMS):
        raise SetupError("cache= keeps the answer, and a stream cannot be kept")
    if store.by is None and (has_auth or plan.takes_request):
        why = "has auth" if has_auth else "or what it is given takes the Request"
        raise SetupError(f'cache=: this handler {why}, so its answers may differ: say by="all", by="user" or by=a function of the request')
    if store.by == "user" and not has_auth:
        raise SetupError('cache=: by="user", and this route has no auth= that says who asks')
    return Storing(store, _keys_of(plan, store)).answer


class Storing:
    """Its `answer` is the step that keeps answers. key_of: None when the path alone is the key."""

    __slots__ = ("_client_seconds", "_get_or", "_key_of", "_keys", "_store")

    def __init__(self, store: Store, key_of: Callable[[Visit], str] | None) -> None:
        self._store = store
        self._get_or = store.get_or
        self._client_seconds = store.client_seconds
        self._key_of = key_of
        self._keys: dict[str, str] = {}  # by path: a text that was asked with before knows its hash

    def answer(self, visit: Visit, proceed: Callable[[], Response]) -> Response:
        """Return what is kept, or what `proceed` gives, which is kept then."""
        request = visit.request
        method = request.method
        if method != "GET" and method != "HEAD":  # noqa: PLR1714  two comparisons of C
            return proceed()
        loading = Loading.__new__(Loading)
        loading.request, loading.proceed, loading.mine = request, proceed, None
        try:
            stored = self._get_or(self._key(request.path) if self._key_of is None else self._key_of(visit), loading)
        except _NotKept:
            return loading.mine or proceed()
        return self._given(stored, request)

    def _key(self, path: str) -> str:
        key = self._keys.get(path)
        if key is None:
            key = self._store.key(path)
            if len(path) <= LONGEST_PATH:
                if len(self._keys) >= PATHS:
                    self._keys.clear()
                self._keys[path] = key
        return key

    def _given(self, stored: Stored, request: Request) -> Response:
        response = Response.__new__(Response)
        headers = stored.headers
        response.begin_with(stored.body, 200, headers[:])
        if "if-none-match" in request.fields:
            etag = response.header("ETag")
            if etag is not None and is_not_modified(request, etag):
                response = Response(b"", 304, [(name, value) for name, value in headers if name.lower() in _OF_304])
        if self._client_seconds and response.header("Cache-Control") is None:
            scope = "" if self._store.by in (None, "all") else "private, "
            response.headers.append(("Cache-Control", f"{scope}max-age={self._client_seconds}"))
            response.headers.append(("Age", str(max(0, int(self._store.clock() - stored.at)))))
        return response


class Loading:
    """Asks the handler, when nothing is kept. mine: its answer, when that is only for this request."""

    __slots__ = ("mine", "proceed", "request")

    request: Request
    proceed: Callable[[], Response]
    mine: Response | None

    def __call__(self) -> tuple[list[tuple[str, str]], bytes]:
        response = _for_everybody(self.request, self.proceed)
        if not _may_be_kept(response):
            self.mine = response
            raise _NotKept
        assert isinstance(response.body, bytes)
        return response.headers, response.body


def _keys_of(plan: Plan, store: Store) -> Callable[[Visit], str] | None:
    """Return the function from a visit to the key: who, path, and of the rest exactly what the handler reads; None: only the path."""
    queried = sorted(set(_names(plan, "query")))
    carried = sorted({(place, name) for place in ("header", "cookie") for name in _names(plan, place)})
    by, key = store.by, store.key
    is_common, is_plain = by is None or by == "all", not (queried or carried or plan.takes_request)

    if is_common and is_plain:
        return None

    def key_of(visit: Visit) -> str:
        request = visit.request
        who = "" if is_common else identity_of(visit) if by == "user" else by(request)
        if is_plain:
            return key(request.path, "", who)
        fields = fields_from(request.query_string, "query") if queried and request.query_string else {}
        query = urlencode([(name, value) for name in queried for value in fields.get(name, ())])
        for place, name in carried:
            value = request.headers.get(name if place == "header" else "cookie", "")
            query += f"&{place}.{name}={len(value)}:{value}"
        if plan.takes_request:  # behind all whose length is known: it may hold anything
            query += f"&{request.query_string}"
        return key(request.path, query, who)

    return key_of


def _names(plan: Plan, place: str) -> Sequence[str]:
    names: list[str] = []
    for parameter in plan.parameters:
        if parameter.place == place:
            record = next((member for member in members(parameter.kind) if is_record(member)), None)
            names += [parameter.name] if record is None else [field.encode_name for field in fields_of(record)]
    return names


def _for_everybody(request: Request, proceed: Callable[[], Response]) -> Response:
    """Run the handler without the client's own conditions: the answer is whole, and not only for this client."""
    if "if-none-match" not in request.fields:
        return proceed()
    headers = request.headers
    request.headers = Headers({name: value for name, value in headers.items() if name != "if-none-match"})
    try:
        return proceed()
    finally:
        request.headers = headers


def _may_be_kept(response: Response) -> bool:
    if response.status != 200 or not isinstance(response.body, bytes):
        return False
    control = (response.header("Cache-Control") or "").lower()
    own = "no-store" in control or "private" in control or "no-cache" in control
    return not own and response.header("Set-Cookie") is None and (response.header("Vary") or "").lower() in ("", "accept")
