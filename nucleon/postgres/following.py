"""Read your writes: the position of a client's last write travels in a signed cookie (docs/decisions/0039)."""

from collections.abc import Generator

from nucleon.errors import Invalid, Problem
from nucleon.message import Request, Response
from nucleon.postgres.cursors import Seal
from nucleon.postgres.replicas import NOWHERE, ReplicatedPool, Session, session

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Following:
    """Gives each request the position that its client must see, and tells the client the position of what it wrote."""

    def __init__(self, name: str, pool: ReplicatedPool, seal: Seal) -> None:
        self.cookie = f"nucleon_position_{name}"
        self._pool = pool
        self._seal = seal

    def around(self, request: Request) -> Generator[None, Response, None]:
        """Surround a request; a hook of the app. A method that is not safe (RFC 9110 9.2.1) and used the primary has written."""
        here = Session(self.position_in(request.headers.get("cookie", "")))
        token = session.set(here)
        try:
            response = yield
        finally:
            session.reset(token)
        if here.used_primary and request.method not in SAFE_METHODS:
            value = self._seal.cursor([format(self._position(), "x")])
            secure = "; Secure" if request.scheme == "https" else ""
            field = f"{self.cookie}={value}; Max-Age={self._seal.seconds:.0f}; Path=/; HttpOnly; SameSite=Lax{secure}"
            response.headers = [*response.headers, ("Set-Cookie", field)]

    def position_in(self, cookies: str) -> int:
        """Return the position in a Cookie field; 0 when there is none that is ours and not too old."""
        for part in cookies.split(";"):
            name, _, value = part.strip().partition("=")
            if name == self.cookie:
                try:
                    return int(self._seal.opened(value, 1)[0] or "0", 16)
                except (Invalid, ValueError):
                    return 0
        return 0

    def _position(self) -> int:
        try:
            return self._pool.position()
        except Problem:
            return NOWHERE  # what was written is not known: this client reads from the primary for a while
