"""The peer broke the protocol."""

from nucleon.errors import NucleonError

FRAME_ERROR = 501
SYNTAX_ERROR = 502
COMMAND_INVALID = 503
UNEXPECTED_FRAME = 505


class MalformedFrame(NucleonError):
    """The peer sent what AMQP 0-9-1 forbids. `code`: the reply code to close the connection with (section 1.8.2)."""

    def __init__(self, what: str, code: int = FRAME_ERROR) -> None:
        super().__init__(what)
        self.code = code
