"""What a message says: its body and properties made ready to be sent, with the id and the trace of what it is sent for."""

from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from nucleon import hooks
from nucleon.amqp.channel import PERSISTENT
from nucleon.amqp.codec import Properties, encode_properties
from nucleon.message.request import Headers, Request
from nucleon.message.trace import TRACEPARENT, TRACESTATE, trace_from

if TYPE_CHECKING:
    from nucleon.amqp.message import Message

JSON_PROPERTIES = Properties(content_type="application/json", delivery_mode=2)
TEXT_PROPERTIES = Properties(content_type="text/plain; charset=utf-8", delivery_mode=2)
BYTES_PROPERTIES = Properties(delivery_mode=2)
_JSON, _TEXT = encode_properties(JSON_PROPERTIES), encode_properties(TEXT_PROPERTIES)
REQUEST_ID_HEADER = "x-request-id"
CARRIED = (REQUEST_ID_HEADER, TRACEPARENT, TRACESTATE)


def encoded(body: Any, given: dict[str, Any] | None = None) -> tuple[bytes, bytes]:
    """Return a body and its encoded properties: bytes as they are, str as UTF-8, everything else as JSON.

    given: fields of `Properties`, which go over those that follow from the body; `ttl` in seconds is turned into `expiration`.
    In a request, or the handling of a message, its id and its trace go along in the headers unless they are given.
    Raises `ValueError` or `TypeError` for what AMQP cannot carry.
    """
    if isinstance(body, bytes):
        data, properties, plain = body, BYTES_PROPERTIES, PERSISTENT
    elif isinstance(body, str):
        data, properties, plain = body.encode(), TEXT_PROPERTIES, _TEXT
    elif isinstance(body, (bytearray, memoryview)):
        data, properties, plain = bytes(body), BYTES_PROPERTIES, PERSISTENT
    else:
        data, properties, plain = msgspec.json.encode(body), JSON_PROPERTIES, _JSON
    if not given and hooks.request_id.carrier() is None:
        return data, plain
    return data, encode_properties(_with(properties, given or {}))


def _with(properties: Properties, given: dict[str, Any]) -> Properties:
    changes = {name: value for name, value in given.items() if value is not None}
    ttl = changes.pop("ttl", None)
    if ttl is not None:
        if ttl < 0:
            raise ValueError(f"ttl must not be negative, not {ttl}")
        changes["expiration"] = str(round(ttl * 1000))
    headers = changes.get("headers") or {}
    more = inherited(headers)
    if more:
        changes["headers"] = {**headers, **more}
    return msgspec.structs.replace(properties, **changes)


def inherited(headers: dict[str, Any]) -> dict[str, str]:
    """Return what a message takes over from the request or message that it is published in, and `headers` do not say."""
    cause = hooks.request_id.carrier()
    if cause is None:
        return {}
    found: dict[str, str] = {}
    if REQUEST_ID_HEADER not in headers:
        found[REQUEST_ID_HEADER] = cause if isinstance(cause, str) else cause.id
    if isinstance(cause, Request) and TRACEPARENT not in headers:
        trace = trace_from(cause.fields)
        if trace is not None:
            found.update(trace.handed_on().fields())
    return found


def with_message_id(given: dict[str, Any]) -> dict[str, Any]:
    """Return the properties with a message id, so that a consumer can tell a message that was sent twice."""
    return given if given.get("message_id") else {**given, "message_id": uuid4().hex}


def context_of(message: "Message", queue: str) -> Context:
    """Return the context to handle a message in: what is published there carries the message's id and trace on, as from a request."""
    context = copy_context()
    headers = message.headers
    fields = {name: str(headers[name]) for name in CARRIED if isinstance(headers.get(name), str | int)}
    if message.properties.message_id:
        fields.setdefault(REQUEST_ID_HEADER, message.properties.message_id)
    context.run(hooks.request_id.set, Request("SERVE", f"/{queue}", "", Headers(fields)) if fields else None)
    return context
