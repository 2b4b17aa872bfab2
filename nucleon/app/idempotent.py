"""`idempotent=`: a request that is repeated with its Idempotency-Key happens once (draft-ietf-httpapi-idempotency-key-header-07).

The first request claims the key; what it answers is kept and given to every repetition. While it runs, a repetition is a 409; with another
content it is a 422. A request that raises frees its key, for what fails has been rolled back.
"""

import re
from collections.abc import Callable, Collection, Mapping
from hashlib import blake2b
from typing import Any, Protocol, get_origin

from nucleon.app.inside import Step, Visit, identity_of
from nucleon.binding.answers import STREAMS
from nucleon.errors import BadRequest, Conflict, Invalid, SetupError
from nucleon.message import Events, Request, Response

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
KEY = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"|([!#-+\x2d-:<-\x5b\x5d-~]{1,255})')
"""An sf-string (RFC 8941 section 3.3.3), as the draft asks, or the bare token that many clients send."""


class Kept(Protocol):
    """An answer of the first request; body None: it was too large to keep."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...
    @property
    def body(self) -> bytes | None: ...


class Begun(Protocol):
    """What a request finds under its key: state is "first", "running", "done" or "different"."""

    @property
    def state(self) -> str: ...
    @property
    def kept(self) -> Kept | None: ...


class Idempotency(Protocol):
    """Where keys and answers are kept, such as `nucleon.redis.Idempotency`."""

    required: bool

    def begin(self, scope: str, key: str, fingerprint: bytes) -> Any: ...

    def finish(self, begun: Any, status: int, headers: list[tuple[str, str]], body: bytes | None) -> None: ...

    def release(self, begun: Any) -> None: ...


class KeyInUse(Conflict):
    """The first request with this Idempotency-Key has not answered yet."""


class KeyReused(Invalid):
    """This Idempotency-Key belongs to a request with another content."""


def once(
    idempotent: Any, methods: Collection[str], returns: Any, route: str, resources: Mapping[type, Mapping[str, Any]]
) -> Step | None:
    """Return the step that lets a request happen once; None where it is not wanted, or where nothing happens anyway.

    idempotent: a store of keys, or True for the one of the app's only resource that makes one. Raises `SetupError` for a route whose
    answer cannot be kept.
    """
    if not idempotent or SAFE.issuperset(methods):
        return None
    owner = get_origin(returns) or returns
    if owner in (Events, *STREAMS):
        raise SetupError("idempotent= keeps the answer, and a stream cannot be kept")
    store = _store_from(resources) if idempotent is True else idempotent

    def happen_once(visit: Visit, proceed: Callable[[], Response]) -> Response:
        request = visit.request
        if request.method in SAFE:
            return proceed()
        key = _key_of(request, store.required)
        if key is None:
            return proceed()
        scope = f"{request.method} {route} {identity_of(visit)}"
        begun = store.begin(scope, key, _fingerprint(visit))
        if begun.state != "first":
            return _repeated(begun)
        try:
            response = proceed()
        except BaseException:
            store.release(begun)
            raise
        body = response.body
        store.finish(begun, response.status, response.headers, body if isinstance(body, bytes) else None)
        return response

    return happen_once


def _key_of(request: Request, is_required: bool) -> str | None:
    sent = request.headers.get("idempotency-key")
    if sent is None:
        if is_required:
            raise BadRequest("this needs an Idempotency-Key: a text of your own, new for each request, the same when you repeat it")
        return None
    found = KEY.fullmatch(sent.strip())
    if found is None:
        raise BadRequest("Idempotency-Key is a text of 1 to 255 printable ASCII characters, in double quotes")
    return found[1] if found[1] is not None else found[2]


def _fingerprint(visit: Visit) -> bytes:
    request = visit.request
    digest = blake2b(digest_size=16)
    for part in (request.path, request.query_string, request.headers.get("content-type", "")):
        digest.update(f"{len(part)}:{part}".encode(errors="surrogateescape"))
    digest.update(request.body(visit.limit_bytes))
    return digest.digest()


def _repeated(begun: Begun) -> Response:
    if begun.state == "running":
        raise KeyInUse("the first request with this Idempotency-Key has not answered yet", headers={"Retry-After": "1"})
    if begun.state == "different" or begun.kept is None:
        raise KeyReused("this Idempotency-Key belongs to a request with another content; take a new one")
    kept = begun.kept
    if kept.body is None:
        raise Conflict("this was done when it was asked for first; its answer was not kept (it was too large)")
    return Response(kept.body, kept.status, [*kept.headers, ("Idempotent-Replayed", "true")])


def _store_from(resources: Mapping[type, Mapping[str, Any]]) -> Idempotency:
    makers = [resource for named in resources.values() for resource in named.values() if hasattr(resource, "idempotency")]
    if len(makers) != 1:
        raise SetupError(f"idempotent=True needs one resource that keeps keys (Redis), and the app has {len(makers)}: name the store")
    store: Idempotency = makers[0].idempotency()
    return store
