"""The border post, both directions of PEP 3333: any WSGI application runs on our server, our app runs on any WSGI server."""

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from types import TracebackType
from typing import Any

from nucleon import green
from nucleon.errors import BadRequest
from nucleon.http import is_bodiless
from nucleon.http.head import RequestHead
from nucleon.http.reply import STATUS_LINES
from nucleon.message import Headers, Request
from nucleon.message.request import BodyReader, identity_from
from nucleon.message.response import Response

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
_KEYS: dict[str, str] = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
_STATUSES: dict[str, int] = {}
_STATUSES_MAXIMUM = 256
_STATUS = re.compile(r"[1-5][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?")  # PEP 3333, "The start_response() Callable"
_DEFAULT_AUTHORITY = ("localhost", "")


def request_from(environ: dict[str, Any]) -> Request:
    """Return the request that a WSGI server describes. Raises `BadRequest` for a path that is not UTF-8."""
    fields = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
    for key, name in (("CONTENT_TYPE", "content-type"), ("CONTENT_LENGTH", "content-length")):
        if environ.get(key):
            fields[name] = environ[key]
    try:
        path = (environ.get("PATH_INFO") or "/").encode("latin-1").decode()
    except ValueError:
        raise BadRequest("the path is not UTF-8") from None
    has_body = environ.get("CONTENT_LENGTH") or environ.get("wsgi.input_terminated")
    return Request(
        environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), Headers(fields),
        _Bounded(environ) if has_body else None,
        scheme=environ.get("wsgi.url_scheme", "http"), client=environ.get("REMOTE_ADDR", ""),
        version=environ.get("SERVER_PROTOCOL", "HTTP/1.1"), deadline_at=green.deadline_at.get(),
    )  # fmt: skip


class _Bounded:
    """`wsgi.input` as a body reader: never past Content-Length, and a short body is an error."""

    __slots__ = ("_input", "_left")

    def __init__(self, environ: dict[str, Any]) -> None:
        self._input = environ["wsgi.input"]
        length = environ.get("CONTENT_LENGTH", "")
        self._left: int | None = int(length) if length.isascii() and length.isdigit() else None

    def read(self, size: int = -1, /) -> bytes:
        if self._left is None:
            return bytes(self._input.read() if size < 0 else self._input.read(size))
        wanted = self._left if size < 0 else min(size, self._left)
        pieces: list[bytes] = []
        while wanted > 0:
            piece = bytes(self._input.read(wanted))
            if not piece:
                raise BadRequest("the connection ended within the body")
            pieces.append(piece)
            wanted -= len(piece)
            self._left -= len(piece)
        return b"".join(pieces)


def send(response: Response, start_response: Callable[..., Any], method: str) -> Iterable[bytes]:
    """Give a response to a WSGI server; the server closes the iterable, which closes the response."""
    headers = list(response.headers)
    body = response.body
    if isinstance(body, bytes) and not is_bodiless(response.status) and response.header("content-length") is None:
        headers.append(("Content-Length", str(len(body))))
    start_response(_status_text(response.status), headers)
    return _Sent(response, method == "HEAD" or is_bodiless(response.status))


def _status_text(status: int) -> str:
    line = STATUS_LINES.get(status)
    return f"{status} Unknown" if line is None else line[9:-2].decode()


class _Sent:
    """The iterable that a WSGI server walks and closes."""

    __slots__ = ("_empty", "_response")

    def __init__(self, response: Response, empty: bool) -> None:
        self._response = response
        self._empty = empty

    def __iter__(self) -> Iterator[bytes]:
        return iter(()) if self._empty else self._response.chunks()

    def close(self) -> None:
        self._response.close()


def environ_from(request: Request, *, multiprocess: bool = True) -> dict[str, Any]:
    """Return the environ (PEP 3333) of a request that our server has read."""
    host = request.fields.get("host", "localhost")
    name, _, port = host.rpartition(":") if host[-1:] != "]" and ":" in host else (host, "", "")
    environ = first_environ(multiprocess)
    environ["REQUEST_METHOD"] = request.method
    environ["PATH_INFO"] = _path_info(request.path)
    environ["QUERY_STRING"] = request.query_string
    environ["SERVER_PROTOCOL"] = request.version
    environ["SERVER_NAME"] = name
    environ["SERVER_PORT"] = port or ("443" if request.scheme == "https" else "80")
    environ["REMOTE_ADDR"] = request.client
    environ["wsgi.url_scheme"] = request.scheme
    environ["wsgi.input"] = Input(request.body_reader)
    for field, value in request.fields.items():
        environ[_KEYS.get(field) or "HTTP_" + field.replace("-", "_").upper()] = value
    return environ


def first_environ(multiprocess: bool) -> dict[str, Any]:
    """Return what every environ begins with. A copy of it has room for a browser's fields: copying is cheap, growing is not."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": NO_INPUT,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    fillers = [f"filler {number}" for number in range(22 - len(environ))]
    environ.update(dict.fromkeys(fillers))
    for _ in fillers:
        environ.popitem()  # unlike del, it leaves nothing behind that the next copy would have to skip
    return environ


def finish_environ(environ: dict[str, Any], head: RequestHead, client: str, scheme: str, body: BodyReader | None) -> None:
    """Say in a copy of `first_environ`, which has the fields already, what else the request said."""
    authority = head.authority or _DEFAULT_AUTHORITY
    environ["REQUEST_METHOD"] = head.method
    environ["PATH_INFO"] = _path_info(head.path)
    environ["REMOTE_ADDR"] = client
    environ["SERVER_NAME"] = authority[0]
    if head.query:
        environ["QUERY_STRING"] = head.query
    if authority[1]:
        environ["SERVER_PORT"] = authority[1]
    elif scheme == "https":
        environ["SERVER_PORT"] = "443"
    if scheme != "http":
        environ["wsgi.url_scheme"] = scheme
    if head.minor == 0:
        environ["SERVER_PROTOCOL"] = "HTTP/1.0"
    if body is not None:
        environ["wsgi.input"] = Input(body)


def _path_info(path: str) -> str:
    return path if path.isascii() else path.encode().decode("latin-1")


class Input:
    """`wsgi.input`: a file of the body; errors of the body raise their `Problem`, they are never an end of file."""

    __slots__ = ("_held", "_reader")

    def __init__(self, reader: BodyReader | None) -> None:
        self._reader = reader
        self._held = b""

    def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        held, reader = self._held, self._reader
        if not held and reader is not None:
            return reader.read(-1 if size is None else size)
        if size is None or size < 0:
            self._held = b""
            return held + (reader.read() if reader is not None else b"")
        if len(held) < size and reader is not None:
            held += reader.read(size - len(held))
        self._held = held[size:]
        return held[:size]

    def readline(self, size: int | None = -1) -> bytes:
        """Return one line with its LF, or the rest."""
        bound = -1 if size is None else size
        reader = self._reader
        end = self._held.find(b"\n") + 1
        while not end and reader is not None and (bound < 0 or len(self._held) < bound):
            piece = reader.read(4096)
            if not piece:
                break
            end = len(self._held) + piece.find(b"\n") + 1 if b"\n" in piece else 0
            self._held += piece
        end = end or len(self._held)
        if bound >= 0:
            end = min(end, bound)
        line, self._held = self._held[:end], self._held[end:]
        return line

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Return the remaining lines, stopping after `hint` bytes."""
        lines: list[bytes] = []
        total = 0
        for line in self:
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line


NO_INPUT = Input(None)
"""The input of every request without a body: nothing can be read from it, so nothing changes it."""


class FileWrapper:
    """`wsgi.file_wrapper`: a file in blocks; our server sends one of the file system by sendfile(2)."""

    def __init__(self, file: Any, block_bytes: int = 65_536) -> None:
        self._file = file
        self._block_bytes = block_bytes

    def __iter__(self) -> Iterator[bytes]:
        while block := self._file.read(self._block_bytes):
            yield block

    def is_plain(self) -> bool:
        """Tell whether this is a regular file of the file system."""
        try:
            return stat.S_ISREG(os.fstat(self._file.fileno()).st_mode) and self._file.tell() >= 0
        except (AttributeError, OSError, ValueError):
            return False

    def place(self) -> tuple[int, int]:
        """Return where reading goes on, and how many bytes there are from there, of a plain file."""
        start: int = self._file.tell()
        return start, max(0, os.fstat(self._file.fileno()).st_size - start)

    def fileno(self) -> int:
        """Return the descriptor of a plain file."""
        return int(self._file.fileno())

    def close(self) -> None:
        close = getattr(self._file, "close", None)
        if close is not None:
            close()


class Start(Response):
    """The `start_response` of one request, its `write`, and the response that they make.

    id: of the request, for log lines. early: takes what is written before the application returns, and sends it over `wire`; without
    it that is held.
    """

    __slots__ = ("_environ", "_id", "early", "sent", "wire", "written")

    def __init__(self, environ: dict[str, Any]) -> None:
        self.begin(environ)

    def begin(self, environ: dict[str, Any]) -> None:
        """Set what it begins with; made without `__init__`, it costs a third."""
        self._environ = environ
        self._id: str | None = None
        self.body = b""
        self.status = 0
        self.headers = []
        self.on_close = None
        self.sent = False
        self.written: list[bytes] | None = None
        self.early: Callable[[Start, bytes], None] | None = None
        self.wire: Any = None

    def __call__(self, status: Any, headers: list[tuple[str, str]] | None = None, exc_info: ExcInfo | None = None) -> Any:
        if headers is None:
            self.write(status)
            return None
        if exc_info is not None:
            if self.sent:
                raise exc_info[1].with_traceback(exc_info[2])
        elif self.status:
            raise AssertionError("start_response was called twice without exc_info")
        self.status = _STATUSES.get(status) or _status_from(status)
        self.headers = list(headers)
        return self  # called with bytes alone it is `write`: making a bound method for every request costs more

    def write(self, data: bytes) -> None:
        """Send data in front of the iterable's."""
        if not isinstance(data, bytes):
            raise TypeError(f"write() takes bytes, and start_response() a status and headers, not {type(data).__name__}")
        if self.early is not None:
            self.early(self, data)
            return
        if self.written is None:
            self.written = []
        self.written.append(data)

    @property
    def id(self) -> str:
        """The id of the request."""
        if self._id is None:
            self._id = identity_from(self._environ.get("HTTP_X_REQUEST_ID", ""))
        return self._id


def _status_from(status: str) -> int:
    if not isinstance(status, str) or _STATUS.fullmatch(status) is None:
        raise ValueError(f"{status!r} is not a status: three digits, a space and a phrase in one line")
    code = int(status[:3])
    if len(_STATUSES) < _STATUSES_MAXIMUM and len(status) < 64:
        _STATUSES[status] = code
    return code


def run(application: Application, environ: dict[str, Any]) -> Response:
    """Call a WSGI application and return its response; a body of one known piece comes whole, others as a stream."""
    return respond_to(application, environ, Start(environ))


def respond_to(application: Application, environ: dict[str, Any], start: Start) -> Response:
    """Call a WSGI application, as `run` does. Raises what the application raises; its iterable is closed then."""
    result = application(environ, start)
    if type(result) is list and len(result) == 1 and start.written is None and type(result[0]) is bytes and start.status:
        start.body = result[0]
        return start
    return _whole_or_streamed(result, start)


def _whole_or_streamed(result: Iterable[bytes], start: Start) -> Response:
    if type(result) is FileWrapper and start.status and start.written is None:
        return Response(result, start.status, start.headers)
    close: Callable[[], None] | None = getattr(result, "close", None)
    try:
        if isinstance(result, (list, tuple)):
            _started(start)
            return Response(b"".join([*(start.written or ()), *result]), start.status, start.headers, on_close=close)
        pieces = iter(result)
        first = next((piece for piece in pieces if piece), None)
        _started(start)
    except BaseException:
        if close is not None:
            close()
        raise
    written = start.written or []
    if first is None:
        return Response(b"".join(written), start.status, start.headers, on_close=close)
    start.sent = True
    return Response(chain(written, (first,), pieces), start.status, start.headers, on_close=close)


def _started(start: Start) -> None:
    if not start.status:
        raise AssertionError("the application did not call start_response")
