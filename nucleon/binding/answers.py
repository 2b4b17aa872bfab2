"""From a handler's value to a response; the return annotation, studied once at start-up, is the schema."""

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeAlias, get_args, get_origin
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from nucleon.binding.call import Call
from nucleon.binding.faults import non_finite
from nucleon.binding.kinds import may_hold_non_finite, plain, shown, unknown_parts
from nucleon.binding.preconditions import is_not_modified, names_version
from nucleon.binding.shape import shape_from, whole_type
from nucleon.errors import NotAcceptable, SetupError
from nucleon.message import Created, Event, Events, Page
from nucleon.message.accept import preferred
from nucleon.message.response import Response

Answer: TypeAlias = Callable[[Any, Call], Response]
Locate: TypeAlias = Callable[[Any, Call], str | None]
JSON = "application/json"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
_JSON_FIELD = ("Content-Type", JSON)
STREAMS = (Iterator, Iterable, Generator)


class WrongAnswer(Exception):
    """A handler returned what its annotation does not declare: our 500, for the log."""


class _PageOut(msgspec.Struct):
    items: Any
    next: str | None


def answer_from(annotation: Any, status: int | None, locate: Locate) -> Answer:
    """Study a return annotation. Raises `SetupError` (without the place) when nothing can be made of it."""
    kind = plain(annotation)
    owner = get_origin(kind) or kind
    if kind is None or kind is type(None):
        return _nothing(status or 204)
    if inspect.isclass(kind) and issubclass(kind, Response):
        return lambda value, call: value
    if kind is bytes:
        return _plain_body(status or 200, "application/octet-stream")
    if kind is str:
        return _plain_body(status or 200, "text/plain; charset=utf-8")
    arguments = get_args(kind)
    if owner in (Created, Page, Events, *STREAMS) and not arguments:
        raise SetupError(f"the return annotation {annotation!r} does not say of what")
    inner = arguments[0] if owner in (Created, Page, Events, *STREAMS) else annotation
    if owner is Events and get_origin(inner) is Event:
        inner = get_args(inner)[0]
    unknown = unknown_parts(inner)
    if unknown:
        raise SetupError(f"the return annotation holds {shown(unknown[0])}, which JSON cannot carry")
    encode = encoder_from(inner)
    if owner is Created:
        return _created(encode, status or 201, locate)
    if owner is Page:
        return _page(inner, status or 200)
    if owner is Events:
        return _events(encode, status or 200)
    if owner in STREAMS:
        return _stream(inner, encode, status or 200)
    return _value(inner, encode, status or 200)


def encoder_from(kind: Any) -> Callable[[Any], bytes]:
    """Return a function from a value to the JSON of its declared type, and of nothing else. NaN and infinities are refused."""
    encode = msgspec.json.Encoder().encode
    shape, whole = shape_from(kind), whole_type(kind)
    checks_finite = may_hold_non_finite(kind)

    def encode_cut(value: Any) -> bytes:
        try:
            cut = value if shape is None or type(value) is whole else shape(value)
            data = encode(cut)
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
            raise WrongAnswer(f"the handler returned {type(value).__name__}, which is not the {kind} it declares: {error}") from error
        if checks_finite and (b"null" in data or b"NaN" in data or b"Infinity" in data):
            for pointer in non_finite(cut):
                raise WrongAnswer(f"the value at {pointer or 'the top'} is NaN or infinite, which JSON cannot carry")
        return data

    return encode_cut


def _nothing(status: int) -> Answer:
    def answer(value: Any, call: Call) -> Response:
        if value is not None:
            raise WrongAnswer(f"the handler declares None and returned {type(value).__name__}")
        return Response(b"", status)

    return answer


def _plain_body(status: int, content_type: str) -> Answer:
    fields = [("Content-Type", content_type)]
    return lambda value, call: Response(value, status, fields.copy())


def _require(call: Call, *media: str) -> str:
    """Return the media type that the client prefers among ours. Raises `NotAcceptable`."""
    accept = call.request.fields.get("accept")
    if accept is None or accept == "*/*" or accept == media[0]:
        return media[0]
    found = preferred(accept, media)
    if found is None:
        raise NotAcceptable(f"this can be had as {' or '.join(media)}")
    return found


def _value(kind: Any, encode: Callable[[Any], bytes], status: int) -> Answer:
    has_version = names_version(kind)

    def answer(value: Any, call: Call) -> Response:
        data = encode(value)
        response = Response.__new__(Response)
        response.begin_with(data, status, [_JSON_FIELD])
        if has_version and (version := getattr(value, "version", None)) is not None:
            etag = f'"{version}"'
            if is_not_modified(call.request, etag):
                return Response(b"", 304, [("ETag", etag)])
            response.headers.append(("ETag", etag))
        return response

    return answer


def _created(encode: Callable[[Any], bytes], status: int, locate: Locate) -> Answer:
    def answer(value: Any, call: Call) -> Response:
        if not isinstance(value, Created):
            raise WrongAnswer(f"the handler declares Created and returned {type(value).__name__}")
        response = Response(encode(value.value), status, [("Content-Type", JSON)])
        location = value.location if value.location is not None else locate(value.value, call)
        if location is not None:
            response.headers.append(("Location", location))
        version = getattr(value.value, "version", None)
        if isinstance(version, int | str):
            response.headers.append(("ETag", f'"{version}"'))
        return response

    return answer


def _page(kind: Any, status: int) -> Answer:
    encode_items = encoder_from(list[kind])

    def answer(value: Any, call: Call) -> Response:
        if not isinstance(value, Page):
            raise WrongAnswer(f"the handler declares Page and returned {type(value).__name__}")
        data = msgspec.json.encode(_PageOut(msgspec.Raw(encode_items(list(value.items))), value.next))
        response = Response(data, status, [("Content-Type", JSON)])
        if value.next is not None:
            kept = [(name, text) for name, text in parse_qsl(call.request.query_string, keep_blank_values=True) if name != "cursor"]
            link = f'<{quote(call.request.path)}?{urlencode([*kept, ("cursor", value.next)])}>; rel="next"'
            response.headers.append(("Link", link))
        return response

    return answer


def _stream(kind: Any, encode: Callable[[Any], bytes], status: int) -> Answer:
    is_raw = plain(kind) is bytes

    def answer(value: Any, call: Call) -> Response:
        items = iter(value)
        if is_raw:
            return Response(_begun(items), status, [("Content-Type", "application/octet-stream")])
        media = _require(call, NDJSON, JSON)
        lines = _ndjson(items, encode) if media == NDJSON else _array(items, encode)
        return Response(_begun(lines), status, [("Content-Type", media), ("Vary", "Accept")])

    return answer


def _begun(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Take the first chunk now: what fails before it (no connection, no row) is still a problem with its status."""
    first = next(chunks, None)
    return _Begun(first, chunks)


class _Begun:
    __slots__ = ("_chunks", "_first")

    def __init__(self, first: bytes | None, chunks: Iterator[bytes]) -> None:
        self._first = first
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return next(self._chunks)

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()


def _ndjson(items: Iterator[Any], encode: Callable[[Any], bytes]) -> Iterator[bytes]:
    try:
        for item in items:
            yield encode(item) + b"\n"
    finally:
        _close(items)


def _array(items: Iterator[Any], encode: Callable[[Any], bytes]) -> Iterator[bytes]:
    before = b"["
    try:
        for item in items:
            yield before + encode(item)
            before = b","
        yield b"]" if before == b"," else b"[]"
    finally:
        _close(items)


def _close(items: Iterator[Any]) -> None:
    """Close the handler's generator now, not when the collector finds it: it holds a cursor."""
    close = getattr(items, "close", None)
    if close is not None:
        close()


def _events(encode: Callable[[Any], bytes], status: int) -> Answer:
    def answer(value: Any, call: Call) -> Response:
        _require(call, SSE)
        fields = [("Content-Type", SSE), ("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")]  # the last: nginx must not hold events
        return Response(_sse(iter(value), encode), status, fields)

    return answer


def _sse(items: Iterator[Any], encode: Callable[[Any], bytes]) -> Iterator[bytes]:
    try:
        for item in items:
            event = item if isinstance(item, Event) else None
            data = encode(item if event is None else event.data)
            yield (b"" if event is None else event.head().encode()) + b"data: " + data + b"\n\n"
    finally:
        _close(items)


def acceptable_from(annotation: Any) -> Callable[[Call], None] | None:
    """Return a check, made before the handler runs, that the client takes what it will return."""
    kind = plain(annotation)
    owner = get_origin(kind) or kind
    if kind in (None, type(None), bytes, str) or (inspect.isclass(kind) and issubclass(kind, Response)):
        return None
    if owner in STREAMS and get_args(kind) and plain(get_args(kind)[0]) is bytes:
        return None
    media = (SSE,) if owner is Events else (NDJSON, JSON) if owner in STREAMS else (JSON,)

    def check(call: Call) -> None:
        _require(call, *media)

    return check
