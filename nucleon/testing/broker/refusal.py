"""What the broker refuses: a reply code and a text, and whether it ends the channel or the whole connection (section 1.8)."""

from nucleon.errors import NucleonError

NO_ROUTE = 312
CONNECTION_FORCED = 320
ACCESS_REFUSED = 403
NOT_FOUND = 404
RESOURCE_LOCKED = 405
PRECONDITION_FAILED = 406
CHANNEL_ERROR = 504
NOT_ALLOWED = 530
NOT_IMPLEMENTED = 540
NAMES = {
    NO_ROUTE: "NO_ROUTE",
    CONNECTION_FORCED: "CONNECTION_FORCED",
    ACCESS_REFUSED: "ACCESS_REFUSED",
    NOT_FOUND: "NOT_FOUND",
    RESOURCE_LOCKED: "RESOURCE_LOCKED",
    PRECONDITION_FAILED: "PRECONDITION_FAILED",
    503: "COMMAND_INVALID",
    CHANNEL_ERROR: "CHANNEL_ERROR",
    NOT_ALLOWED: "NOT_ALLOWED",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
}
HARD = frozenset([CONNECTION_FORCED, 503, CHANNEL_ERROR, NOT_ALLOWED, NOT_IMPLEMENTED])


class Refusal(NucleonError):
    """A request that the broker answers by closing. code: the reply code; `is_hard`: the whole connection goes."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(f"{NAMES[code]} - {what}" if code in NAMES else what)
        self.code = code
        self.is_hard = code in HARD
