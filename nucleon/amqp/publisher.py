"""Publishing: a channel for each exchange, so that a missing one hurts nobody else, and bodies and properties made ready to be sent."""

from collections import OrderedDict
from time import monotonic
from typing import Any
from uuid import uuid4

import msgspec

from nucleon import green, hooks
from nucleon.amqp.channel import PERSISTENT, Channel
from nucleon.amqp.codec import Properties, encode_properties
from nucleon.amqp.confirms import Confirm
from nucleon.amqp.errors import AccessRefused, ChannelClosed, ConnectionLost, OutcomeUnknown
from nucleon.amqp.link import Link
from nucleon.message.request import Request
from nucleon.message.trace import TRACEPARENT, trace_from

JSON_PROPERTIES = Properties(content_type="application/json", delivery_mode=2)
TEXT_PROPERTIES = Properties(content_type="text/plain; charset=utf-8", delivery_mode=2)
BYTES_PROPERTIES = Properties(delivery_mode=2)
_JSON, _TEXT = encode_properties(JSON_PROPERTIES), encode_properties(TEXT_PROPERTIES)
CHANNELS_KEPT = 64  # exchanges that were published to last; names may come from data
REQUEST_ID_HEADER = "x-request-id"


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
    inherited = _inherited(changes.get("headers") or {})
    if inherited:
        changes["headers"] = {**(changes.get("headers") or {}), **inherited}
    return msgspec.structs.replace(properties, **changes)


def _inherited(headers: dict[str, Any]) -> dict[str, str]:
    """Return what a message takes over from the request or message that it is published in, and `headers` do not say."""
    cause = hooks.request_id.carrier()
    if cause is None:
        return {}
    inherited: dict[str, str] = {}
    if REQUEST_ID_HEADER not in headers:
        inherited[REQUEST_ID_HEADER] = cause if isinstance(cause, str) else cause.id
    if isinstance(cause, Request) and TRACEPARENT not in headers:
        trace = trace_from(cause.fields)
        if trace is not None:
            inherited.update(trace.handed_on().fields())
    return inherited


class Publishers:
    """The channels that messages leave by, one for each exchange and mode, opened when first needed and again when they die."""

    def __init__(self, link: Link, window: int) -> None:
        self._link = link
        self._window = window
        self._channels: OrderedDict[tuple[str, bool], Channel] = OrderedDict()
        self._opening = green.Lock()

    def send(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: bytes = PERSISTENT,
        *,
        is_mandatory: bool = False,
        is_confirmed: bool = True,
        timeout: float | None = None,
    ) -> Confirm | None:
        """Send a message and return its confirm (None when not confirmed), waiting up to `timeout` seconds to be allowed to.

        Raises `ConnectionLost`, `ConnectionBlocked`, `AccessRefused`: nothing was sent then.
        """
        channel = self._channels.get((exchange, is_confirmed))
        if channel is not None and channel.error is None and not channel.must_wait():
            return channel.publish(exchange, routing_key, body, properties, is_mandatory=is_mandatory)
        until = monotonic() + (self._link.settings.wait_seconds if timeout is None else timeout)
        while True:
            try:
                channel = self._channel(exchange, is_confirmed, max(until - monotonic(), 0.001))
                left = max(until - monotonic(), 0.001)
                return channel.publish(exchange, routing_key, body, properties, is_mandatory=is_mandatory, timeout=left)
            except (ConnectionLost, ChannelClosed) as error:
                # the channel died before anything was sent: another one may do while there is time
                if isinstance(error, AccessRefused) or monotonic() >= until:
                    raise

    def put(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: bytes,
        *,
        is_mandatory: bool,
        retry: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Send a message and wait until RabbitMQ has it.

        retry: when the outcome is unknown, send it again as long as there is time; duplicates are possible then.
        Raises `OutcomeUnknown`, `Unroutable`, `Rejected`, `ConnectionLost`, `ConnectionBlocked`, `ChannelClosed` (no such exchange).
        """
        patience = self._link.settings.wait_seconds if timeout is None else timeout
        until = monotonic() + patience
        while True:
            confirm = self.send(exchange, routing_key, body, properties, is_mandatory=is_mandatory, timeout=max(until - monotonic(), 0.001))
            assert confirm is not None
            try:
                confirm.wait(max(until - monotonic(), 0.001))
                return
            except OutcomeUnknown:
                if not retry or not confirm.is_done or monotonic() >= until:
                    raise

    def _channel(self, exchange: str, is_confirmed: bool, timeout: float) -> Channel:
        if not self._opening.acquire(timeout):
            raise ConnectionLost(f"no channel to publish on within {timeout:g} s: {self._link!r}")
        try:
            key = (exchange, is_confirmed)
            channel = self._channels.get(key)
            if channel is None or channel.error is not None:
                channel = self._link.get(timeout).channel(timeout)
                if is_confirmed:
                    channel.confirm(self._window)
                self._channels[key] = channel
                self._close_idle()
            self._channels.move_to_end(key)
            return channel
        finally:
            self._opening.release()

    def _close_idle(self) -> None:
        for key, channel in list(self._channels.items())[: max(len(self._channels) - CHANNELS_KEPT, 0)]:
            if channel.confirms is None or not channel.confirms.open:
                del self._channels[key]
                channel.abandon("other exchanges are published to")

    def unconfirmed(self) -> int:
        """Return how many messages are on their way."""
        return sum(len(channel.confirms.open) for channel in self._channels.values() if channel.confirms is not None)


def with_message_id(given: dict[str, Any]) -> dict[str, Any]:
    """Return the properties with a message id, so that a consumer can tell a message that was sent twice."""
    return given if given.get("message_id") else {**given, "message_id": uuid4().hex}
