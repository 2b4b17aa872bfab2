"""The border post, both directions of PEP 3333: any WSGI application runs on our server, our app runs on any WSGI server."""

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from types import TracebackType
from typing import Any

from nucleon import green
from nucleon.errors import BadRequest
from nucleon.http import is_bodiless
from nucleon.http.reply import STATUS_LINES
from nucleon.message import Headers, Request, Response

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
_KEYS: dict[str, str] = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


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
    host = request.headers.get("host", "localhost")
    name, _, port = host.rpartition(":") if host[-1:] != "]" and ":" in host else (host, "", "")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path if request.path.isascii() else request.path.encode().decode("latin-1"),
        "QUERY_STRING": request.query_string,
        "SERVER_PROTOCOL": request.version,
        "SERVER_NAME": name,
        "SERVER_PORT": port or ("443" if request.scheme == "https" else "80"),
        "REMOTE_ADDR": request.client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": Input(request),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    for field, value in request.headers.items():
        environ[_KEYS.get(field) or "HTTP_" + field.replace("-", "_").upper()] = value
    return environ


class Input:
    """`wsgi.input`: a file of the body; errors of the body raise their `Problem`, they are never an end of file."""

    __slots__ = ("_held", "_request")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._held = b""

    def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        held, reader = self._held, self._request.body_reader
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
        reader = self._request.body_reader
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


class FileWrapper:
    """`wsgi.file_wrapper`: a file in blocks."""

    def __init__(self, file: Any, block_bytes: int = 65_536) -> None:
        self._file = file
        self._block_bytes = block_bytes

    def __iter__(self) -> Iterator[bytes]:
        while block := self._file.read(self._block_bytes):
            yield block

    def close(self) -> None:
        close = getattr(self._file, "close", None)
        if close is not None:
            close()


class Host:
    """Makes a WSGI application answer our requests."""

    def __init__(self, application: Application, *, multiprocess: bool = True) -> None:
        self.application = application
        self._multiprocess = multiprocess

    def respond(self, request: Request) -> Response:
        """Run the application up to its first bytes. Raises what the application raises; its iterable is closed then."""
        return run(self.application, environ_from(request, multiprocess=self._multiprocess))


class _Start:
    """The `start_response` of one request, and its `write`."""

    __slots__ = ("headers", "sent", "status", "written")

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.sent = False
        self.written: list[bytes] = []

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None) -> Callable[[bytes], None]:
        if exc_info is not None:
            if self.sent:
                raise exc_info[1].with_traceback(exc_info[2])
        elif self.status:
            raise AssertionError("start_response was called twice without exc_info")
        if not status[:3].isdigit() or not status[:3].isascii():
            raise ValueError(f"{status!r} is not a status")
        self.status = int(status[:3])
        self.headers = list(headers)
        return self.write

    def write(self, data: bytes) -> None:
        """Hold data in front of the iterable's."""
        if not isinstance(data, bytes):
            raise TypeError(f"write() takes bytes, not {type(data).__name__}")
        self.written.append(data)


def run(application: Application, environ: dict[str, Any]) -> Response:
    """Call a WSGI application and return its response; a body of one known piece comes whole, others as a stream."""
    start = _Start()
    result = application(environ, start)
    close: Callable[[], None] | None = getattr(result, "close", None)
    try:
        if isinstance(result, (list, tuple)):
            _started(start)
            return Response(b"".join([*start.written, *result]), start.status, start.headers, on_close=close)
        pieces = iter(result)
        first = next((piece for piece in pieces if piece), None)
        _started(start)
    except BaseException:
        if close is not None:
            close()
        raise
    if first is None:
        return Response(b"".join(start.written), start.status, start.headers, on_close=close)
    start.sent = True
    return Response(chain(start.written, (first,), pieces), start.status, start.headers, on_close=close)


def _started(start: _Start) -> None:
    if not start.status:
        raise AssertionError("the application did not call start_response")
