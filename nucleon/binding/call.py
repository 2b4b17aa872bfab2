"""One request while its handler is being called: what was read of it, and what has to be given back."""

from collections.abc import Callable, Sequence
from http.cookies import CookieError, SimpleCookie

from nucleon.binding.scanning import decoded
from nucleon.errors import BadRequest
from nucleon.message.request import Request

MAXIMUM_FIELDS = 1000  # of a query or a form; more is an attack on the parser


class Call:
    """The readings are made once each and kept."""

    __slots__ = ("_cookies", "_form", "_query", "cleanups", "error", "is_cut_off", "limit_bytes", "request")

    def __init__(self, request: Request, limit_bytes: int | None) -> None:
        self.begin(request, limit_bytes)

    def begin(self, request: Request, limit_bytes: int | None) -> None:
        """Set what a call begins with; made without `__init__`, it costs a third."""
        self.request = request
        self.limit_bytes = limit_bytes
        self.cleanups: list[Callable[[BaseException | None], None]] | None = None
        self.error: BaseException | None = None
        self.is_cut_off = False  # the answer was a stream, and nobody read it to its end
        self._query: dict[str, list[str]] | None = None
        self._form: dict[str, list[str]] | None = None
        self._cookies: dict[str, str] | None = None

    def query(self) -> dict[str, list[str]]:
        """Return the query's fields, each with all its values."""
        if self._query is None:
            self._query = fields_from(self.request.query_string, "query") if self.request.query_string else {}
        return self._query

    def form(self) -> dict[str, list[str]]:
        """Return the fields of an urlencoded body, each with all its values."""
        if self._form is None:
            try:
                text = self.request.body(self.limit_bytes).decode("ascii")
            except UnicodeDecodeError:
                raise BadRequest("the form is not urlencoded: it holds bytes beyond ASCII") from None
            self._form = fields_from(text, "form")
        return self._form

    def cookies(self) -> dict[str, str]:
        """Return the cookies; a broken Cookie field is none."""
        if self._cookies is None:
            jar = SimpleCookie()
            try:
                jar.load(self.request.headers.get("cookie", ""))
            except CookieError:
                pass
            self._cookies = {name: morsel.value for name, morsel in jar.items()}
        return self._cookies

    def finish(self, error: BaseException | None) -> None:
        """Give back everything that was borrowed."""
        cleanups, self.cleanups = self.cleanups, None
        give_back(cleanups or (), error)


def give_back(cleanups: Sequence[Callable[[BaseException | None], None]], error: BaseException | None) -> None:
    """Run the cleanups, the last first; each is tried, also when one is killed, and is told what went wrong before it."""
    if not cleanups:
        return
    try:
        cleanups[-1](error)
    except BaseException as failure:
        give_back(cleanups[:-1], failure if error is None else error)
        if failure is error:
            return
        raise
    give_back(cleanups[:-1], error)


def fields_from(text: str, place: str) -> dict[str, list[str]]:
    """Parse urlencoded text (WHATWG URL, section 5.1)."""
    if text.count("&") >= MAXIMUM_FIELDS:
        raise BadRequest(f"the {place} has more than {MAXIMUM_FIELDS} fields")
    fields: dict[str, list[str]] = {}
    is_plain = "%" not in text and "+" not in text
    for part in text.split("&"):
        if part:
            at = part.find("=")
            name, value = (part, "") if at < 0 else (part[:at], part[at + 1 :])
            if not is_plain:
                name, value = _decoded(name, place), _decoded(value, place)
            values = fields.get(name)
            if values is None:
                fields[name] = [value]
            else:
                values.append(value)
    return fields


def _decoded(text: str, place: str) -> str:
    try:
        return decoded(text)
    except UnicodeDecodeError:
        raise BadRequest(f"the {place} is not UTF-8") from None
