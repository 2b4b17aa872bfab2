"""Trouble on request: what the broker, or the way to it, does wrong the next time a method comes or goes."""

from dataclasses import dataclass

from nucleon.amqp.codec import Method


@dataclass(slots=True)
class Trouble:
    """One thing that goes wrong, `times` times. what: lose, delay, cut, close_connection or close_channel."""

    what: str
    kind: type[Method]
    times: int
    seconds: float = 0.0
    code: int = 0
    text: str = ""


class Faults:
    """What is to go wrong. Each order is for one method, and for the next `times` of it; they are served in turn.

    broker.faults.lose(methods.BasicAck)                  the next ack that the broker sends never arrives
    broker.faults.cut_after(methods.BasicPublish)         the next publish is taken, then the connection is reset
    """

    def __init__(self) -> None:
        self._received: list[Trouble] = []
        self._sent: list[Trouble] = []
        self._done: list[Trouble] = []

    def lose(self, kind: type[Method], times: int = 1) -> None:
        """Do not send it."""
        self._sent.append(Trouble("lose", kind, times))

    def delay(self, kind: type[Method], seconds: float, times: int = 1) -> None:
        """Send it late, and everything behind it on its connection."""
        self._sent.append(Trouble("delay", kind, times, seconds))

    def ignore(self, kind: type[Method], times: int = 1) -> None:
        """Do nothing when it comes."""
        self._received.append(Trouble("ignore", kind, times))

    def cut_at(self, kind: type[Method], times: int = 1) -> None:
        """Reset the connection when it comes, before it has done anything."""
        self._received.append(Trouble("cut", kind, times))

    def cut_after(self, kind: type[Method], times: int = 1) -> None:
        """Do what it asks, then reset the connection before the answer is sent."""
        self._done.append(Trouble("cut", kind, times))

    def close_connection_at(self, kind: type[Method], code: int = 320, text: str = "CONNECTION_FORCED - by the test") -> None:
        """Close the connection when it comes."""
        self._received.append(Trouble("close_connection", kind, 1, 0.0, code, text))

    def close_channel_at(self, kind: type[Method], code: int = 406, text: str = "PRECONDITION_FAILED - by the test") -> None:
        """Close its channel when it comes."""
        self._received.append(Trouble("close_channel", kind, 1, 0.0, code, text))

    def at_receipt(self, method: Method) -> Trouble | None:
        """Return what goes wrong with a method that has come."""
        return _next(self._received, method)

    def after(self, method: Method) -> Trouble | None:
        """Return what goes wrong when a method has been acted on."""
        return _next(self._done, method)

    def at_sending(self, method: Method) -> Trouble | None:
        """Return what goes wrong with a method that is to be sent."""
        return _next(self._sent, method)


def _next(orders: list[Trouble], method: Method) -> Trouble | None:
    for trouble in orders:
        if isinstance(method, trouble.kind):
            trouble.times -= 1
            if not trouble.times:
                orders.remove(trouble)
            return trouble
    return None
