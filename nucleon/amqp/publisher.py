"""Publishing: a channel for each exchange, so that a missing one hurts nobody else."""

from collections import OrderedDict
from time import monotonic

from nucleon import green
from nucleon.amqp.channel import PERSISTENT, Channel
from nucleon.amqp.confirms import Confirm
from nucleon.amqp.errors import AccessRefused, ChannelClosed, ConnectionBlocked, ConnectionLost, OutcomeUnknown
from nucleon.amqp.link import Link

CHANNELS_KEPT = 64  # exchanges that were published to last; names may come from data


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
            return channel.publish(exchange, routing_key, body, properties, is_mandatory=is_mandatory, timeout=timeout)
        until = monotonic() + (self._link.settings.wait_seconds if timeout is None else timeout)
        while True:
            connection = self._link.get() if timeout is None else None  # at once when RabbitMQ has been away for long
            try:
                channel = self._channel(exchange, is_confirmed, max(until - monotonic(), 0.001))
                left = max(until - monotonic(), 0.001)
                if connection is not None:
                    left = connection.patience(left)
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
        unknown: OutcomeUnknown | None = None
        while True:
            left = None if timeout is None and not retry else max(until - monotonic(), 0.001)
            try:
                confirm = self.send(exchange, routing_key, body, properties, is_mandatory=is_mandatory, timeout=left)
            except (ConnectionLost, ConnectionBlocked):
                if unknown is None:
                    raise
                raise unknown from None  # nothing was sent now, but an earlier try may have arrived
            assert confirm is not None
            try:
                confirm.wait(max(until - monotonic(), 0.001))
                return
            except OutcomeUnknown as error:
                if not retry or not confirm.is_done or monotonic() >= until:
                    raise
                unknown = error

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
