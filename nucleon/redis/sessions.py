"""Sessions: typed data in Redis, and in the browser a signed opaque id.

    sessions = Sessions(cache, Login).install(app)

    @app.post("/login")
    def login(body: Credentials, session: Session[Login]) -> None:
        session.renew(Login(user=checked(body)))

Changes are written after the handler, when its answer is no error; the cookie is sent with that answer. (Cookies: RFC 6265, and
draft-ietf-httpbis-rfc6265bis for SameSite and the prefix `__Host-`.)
"""

import hmac
import logging
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import msgspec

from nucleon.errors import SetupError, Unauthorized
from nucleon.message import Request
from nucleon.redis.kinds import check_kind
from nucleon.redis.measures import wrong_seconds
from nucleon.redis.scripts import Commands
from nucleon.redis.unreadable import UNREADABLE
from nucleon.secret import Secret

T = TypeVar("T")
log = logging.getLogger("nucleon.redis")
STATE = "nucleon.sessions"
SECRET_KEY = "nucleon:session-secret"
SECRET_SECONDS = 1.0  # a secret that Redis keeps is read again when a signature does not fit, at most this often
INSTANT_BYTES = 15  # milliseconds since the epoch, in front of the data


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """The settings section `[session]`.

    secret: signs the ids; several, separated by blanks: the first signs, all are accepted. None: one is made and kept in Redis.
    cookie: its name; over HTTPS it gets the prefix `__Host-`. secure: send it over HTTPS only. same_site: "Lax", "Strict" or "None".
    idle_seconds: a session that is not used ends. absolute_seconds: every session ends.
    """

    secret: Secret[str] | None = None
    cookie: str = "session"
    secure: bool = True
    same_site: str = "Lax"
    idle_seconds: float = 1800
    absolute_seconds: float = 43_200

    def __post_init__(self) -> None:
        if not self.cookie.isascii() or not self.cookie.replace("-", "").replace("_", "").isalnum():
            raise SetupError(f"cookie is a name of letters, digits, - and _, not {self.cookie!r}")
        if self.same_site not in ("Lax", "Strict", "None") or (self.same_site == "None" and not self.secure):
            raise SetupError('same_site is "Lax", "Strict", or "None" with secure = true')
        for name in ("idle_seconds", "absolute_seconds"):
            if (wrong := wrong_seconds(getattr(self, name))) is not None:
                raise SetupError(f"{name} {wrong}")
        if self.secret is not None and any(len(one) < 16 for one in self.secret.reveal().split() or [""]):
            raise SetupError("secret must have at least 16 characters")


class Session(Generic[T]):
    """The session of one request; it is loaded when it is first looked at."""

    def __init__(self, load: Callable[[], tuple[str, float, T] | None]) -> None:
        self._load = load
        self._found: tuple[str, float, T] | None = None
        self.is_loaded = False
        self.change: str | None = None
        self.next: T | None = None

    @property
    def data(self) -> T | None:
        """The data, or None when there is no session. Raises `Unavailable`, `DeadlineExceeded`."""
        if self.change is not None:
            return self.next
        found = self.found()
        return None if found is None else found[2]

    def require(self) -> T:
        """Return the data. Raises `Unauthorized` (401) when there is no session."""
        data = self.data
        if data is None:
            raise Unauthorized("this needs a session: log in first")
        return data

    def put(self, data: T) -> None:
        """Replace the data; begins a session when there is none. Raises TypeError for None: `end` ends a session."""
        self.next = _data(data)
        if self.change != "renew":
            self.change = "put"

    def renew(self, data: T) -> None:
        """Replace the data under a new id; the old id is worth nothing any more. At login and whenever rights grow."""
        self.next, self.change = _data(data), "renew"

    def end(self) -> None:
        """Forget the session here and in the browser."""
        self.next, self.change = None, "end"

    def found(self) -> tuple[str, float, T] | None:
        """Return id, beginning and data as they were stored."""
        if not self.is_loaded:
            self._found = self._load()
            self.is_loaded = True
        return self._found

    def __repr__(self) -> str:
        state = "not loaded" if not self.is_loaded else "none" if self._found is None else "open"
        return f"<Session {state}{f', to {self.change}' if self.change else ''}>"


class App(Protocol):
    """What an application offers to `Sessions.install`."""

    def use(self, resource: Any, name: str | None = None) -> Any: ...

    def provide(self, function: Any) -> Any: ...

    def around(self, function: Any) -> Any: ...


class Sessions(Generic[T]):
    """Sessions with data of one type. defaults: of `SessionSettings`, the settings files go over them. clock: seconds since the epoch."""

    kind: ClassVar[str] = "session"
    Settings: ClassVar[type[SessionSettings]] = SessionSettings

    def __init__(self, commands: Commands, kind: type[T], *, clock: Callable[[], float] = time.time, **defaults: Any) -> None:
        check_kind("Sessions()", kind)
        self._commands, self._data_kind, self._clock = commands, kind, clock
        self._encode = msgspec.json.Encoder().encode
        self._decode: Callable[[bytes], T] = msgspec.json.Decoder(kind).decode
        self.begun = self.ended = 0
        try:
            self.configure(SessionSettings(**defaults), self.kind)
        except (TypeError, SetupError) as error:
            raise SetupError(f"Sessions(): {error}") from None

    def install(self, app: App, name: str | None = None) -> Self:
        """Make an app offer `Session[...]` to its handlers and send the cookies; the settings are in the section `[session]`."""
        app.use(self, name)

        def session(request: Request) -> Any:
            return self.of(request)

        session.__annotations__["return"] = Session[self._data_kind]  # type: ignore[name-defined]
        app.provide(session)
        app.around(self.carry)
        return self

    def configure(self, settings: SessionSettings, name: str) -> None:
        """Take the settings of the section `[name]`."""
        self.settings, self.name = settings, name
        self.cookie = f"__Host-{settings.cookie}" if settings.secure else settings.cookie
        self._secrets: list[bytes] | None = None
        self._read_at = 0.0

    def start(self) -> None:
        """Nothing is opened: Redis is asked when a session is looked at."""

    def stop(self) -> None:
        """Nothing to close."""

    def of(self, request: Request) -> Session[T]:
        """Return the session of a request, the same for all who ask during it."""
        made: Session[T] | None = request.state.get(STATE)
        if made is None:
            made = request.state[STATE] = Session(lambda: self._loaded(request))
        return made

    def carry(self, request: Request) -> Iterator[None]:
        """The hook around requests: write what changed, unless the answer is an error, and send the cookie."""
        response: Any = yield
        session: Session[T] | None = request.state.get(STATE)
        if session is None:
            return
        cookie = self._written(session) if session.change is not None and response.status < 400 else None
        if cookie is not None:
            response.headers.append(("Set-Cookie", cookie))
        if (cookie is not None or session.is_loaded) and response.header("Cache-Control") is None:
            response.headers.append(("Cache-Control", "no-store" if cookie is not None else "private"))

    def _loaded(self, request: Request) -> tuple[str, float, T] | None:
        for signed in _cookies(request.headers.get("cookie", ""), self.cookie):
            id = self._verified(signed)
            if id is not None:
                return self._stored(id)
        return None

    def _stored(self, id: str) -> tuple[str, float, T] | None:
        place, idle = _place(id), self._milliseconds(self.settings.idle_seconds)
        stored = self._commands.execute_command("GETEX", place, "PX", idle, NEVER_DECODE=True)
        if stored is None:
            return None
        if not stored[:INSTANT_BYTES].isdigit():
            self._tell_shape()
            return None
        begun = int(stored[:INSTANT_BYTES]) / 1000
        left = begun + self.settings.absolute_seconds - self._clock()
        if left <= 0:
            self._commands.execute_command("DEL", place)
            return None
        if left < self.settings.idle_seconds:
            self._commands.execute_command("PEXPIRE", place, self._milliseconds(left))
        try:
            return id, begun, self._decode(stored[INSTANT_BYTES:])
        except UNREADABLE:
            self._tell_shape()
            return None

    def _tell_shape(self) -> None:
        log.info("a session of another shape (an older release wrote it) counts as none")

    def _written(self, session: Session[T]) -> str | None:
        """Write what changed; return the cookie to send, or None when it stays."""
        found, now = session.found(), self._clock()
        if session.change == "end":
            if found is not None:
                self._commands.execute_command("DEL", _place(found[0]))
                self.ended += 1
            return self._cookie("", "; Max-Age=0")
        assert session.next is not None
        data = self._encode(session.next)
        if found is not None and session.change == "put":
            life = min(self.settings.idle_seconds, found[1] + self.settings.absolute_seconds - now)
            # XX: a session that was ended meanwhile, by another request, does not come back
            self._commands.execute_command("SET", _place(found[0]), _stamped(found[1], data), "PX", self._milliseconds(life), "XX")
            return None
        if self.settings.secret is None:
            self._secrets = None  # begun with the secret that all workers share just now
        id = secrets.token_urlsafe(32)
        life = min(self.settings.idle_seconds, self.settings.absolute_seconds)
        self._commands.execute_command("SET", _place(id), _stamped(now, data), "PX", self._milliseconds(life))
        self.begun += 1
        if found is not None:
            self._commands.execute_command("DEL", _place(found[0]))
        return self._cookie(f"{id}.{self._signature(id, self._keys()[0])}")

    def _cookie(self, value: str, more: str = "") -> str:
        secure = "; Secure" if self.settings.secure else ""
        return f"{self.cookie}={value}; Path=/; HttpOnly; SameSite={self.settings.same_site}{secure}{more}"

    def _verified(self, signed: str) -> str | None:
        id, dot, signature = signed.rpartition(".")
        if not dot or not id.isascii() or not signature.isascii() or len(signed) > 200:
            return None
        good = self._is_signed(id, signature)
        if not good and self.settings.secret is None and time.monotonic() - self._read_at > SECRET_SECONDS:
            self._secrets = None  # Redis may have lost its data since, and another worker have made another secret
            good = self._is_signed(id, signature)
        return id if good else None

    def _is_signed(self, id: str, signature: str) -> bool:
        return any(hmac.compare_digest(signature, self._signature(id, key)) for key in self._keys())

    def _signature(self, id: str, key: bytes) -> str:
        return urlsafe_b64encode(hmac.digest(key, f"{self.cookie}={id}".encode(), sha256)).rstrip(b"=").decode()

    def _keys(self) -> list[bytes]:
        if self._secrets is None:
            if self.settings.secret is not None:
                self._secrets = [one.encode() for one in self.settings.secret.reveal().split()]
            else:
                self._commands.execute_command("SET", SECRET_KEY, secrets.token_hex(32), "NX")
                self._secrets = [self._commands.execute_command("GET", SECRET_KEY, NEVER_DECODE=True)]
                self._read_at = time.monotonic()
        return self._secrets

    def _milliseconds(self, seconds: float) -> int:
        return max(1, round(seconds * 1000))

    def __repr__(self) -> str:
        idle, most = self.settings.idle_seconds, self.settings.absolute_seconds
        kind = getattr(self._data_kind, "__name__", self._data_kind)
        return f"<Sessions of {kind} in {self.cookie!r}, {idle:g} s idle, {most:g} s at most: {self.begun} begun, {self.ended} ended here>"


def _data(data: T) -> T:
    if data is None:
        raise TypeError("a session cannot hold None: end it with session.end()")
    return data


def _place(id: str) -> str:
    """Return the key: a digest, so that whoever reads Redis cannot take a session over."""
    return "session:" + blake2b(id.encode(), digest_size=20).hexdigest()


def _stamped(begun: float, data: bytes) -> bytes:
    return b"%0*d%s" % (INSTANT_BYTES, round(begun * 1000), data)


def _cookies(field: str, name: str) -> Iterator[str]:
    for part in field.split(";"):
        found, _, value = part.strip().partition("=")
        if found == name:
            yield value.strip('"')
