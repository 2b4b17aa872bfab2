"""One exchange: a request to the application, its response to the wire. Runs on a worker greenlet."""

import logging
from collections.abc import Iterator

from gevent import Timeout

from nucleon import green, hooks
from nucleon.errors import Problem
from nucleon.http.head import RequestHead
from nucleon.http.reply import Reply, compose
from nucleon.message.request import Request, identity_from
from nucleon.message.response import Response
from nucleon.server.body import Body
from nucleon.server.connection import Connection, Gone
from nucleon.server.core import Core
from nucleon.server.problems import problem_response
from nucleon.server.stream import Stream
from nucleon.wsgi import FileWrapper, Start, finish_environ, respond_to

log = logging.getLogger("nucleon.server")
_JOINED_BYTES = 16_384  # a body up to this size is copied behind its head; a larger one is sent from where it is
_EVENTS_HEAD_SECONDS = 0.25  # a stream of events that is silent so long sends its head: until then an error still has a status of its own
_FAILURES = (Exception, Timeout)  # a handler's own `with gevent.Timeout(...)` is an error of its own, though no `Exception`
_set_deadline = green.deadline_at.set
_set_identity = hooks.request_id.set


def run_exchange(core: Core, connection: Connection) -> bool:
    """Answer one request. True: the connection may carry another one. Never raises an `Exception`."""
    head = connection.head
    assert head is not None
    body = Body(connection, head) if head.chunked or head.content_length > 0 else None
    _set_deadline(connection.overdue_at - core.grace_seconds)
    response = _answer(core, connection, head, body) if core.environ is None else _answer_wsgi(core, connection, head, body)
    connection.overdue_at = 0.0
    if response is None:
        connection.close()
        return False
    keep_alive = head.keep_alive and not core.draining
    if body is not None and (not body.is_finished() or body.broken):
        keep_alive = False
    if connection.eof and not connection.pending:
        keep_alive = False
    try:
        if isinstance(response.body, bytes) and connection.early is None:
            if type(response.body) is not bytes:
                response.body = bytes(response.body)
            return _send_whole(connection, head, response, keep_alive, response.on_close is None)
        _set_deadline(None)  # a stream may last; each write has its own limit
        if isinstance(response.body, FileWrapper) and connection.early is None and response.body.is_plain() and connection.wire.is_plain:
            return _send_file(connection, head, response, response.body, keep_alive)
        return _send_stream(connection, head, response, keep_alive)
    except Gone as gone:
        log.info("the client of %s %s has gone: %s", head.method, head.path, gone)
        connection.close()
        return False
    except _FAILURES:
        log.exception("%s %s failed while its answer was sent", head.method, head.path)
        connection.close()
        return False
    finally:
        if response.needs_closing():
            _close(response)


def _answer(core: Core, connection: Connection, head: RequestHead, body: Body | None) -> Response:
    """Let an application of ours answer."""
    request = Request.__new__(Request)
    request.method = head.method
    request.path = head.path
    request.query_string = head.query
    request.fields = head.fields
    request.body_reader = body
    request.client, request.scheme = connection.peer, connection.scheme
    if core.proxies is not None:
        request.client, request.scheme = core.proxies.origin(connection.peer, connection.scheme, head.fields)
    request.version = "HTTP/1.1" if head.minor else "HTTP/1.0"
    request.deadline_at = connection.overdue_at - core.grace_seconds
    request.begin()
    try:
        return core.respond(request)  # type: ignore[misc]
    except Problem as problem:
        return problem_response(problem, request.id)
    except _FAILURES:
        log.exception("%s %s failed", request.method, request.path)
        return problem_response(Problem(), request.id)


def _answer_wsgi(core: Core, connection: Connection, head: RequestHead, body: Body | None) -> Response | None:
    """Let a WSGI application answer. None: it failed after its first byte, so the answer cannot be made good."""
    environ = head.fields
    client, scheme = connection.peer, connection.scheme
    if core.proxies is not None:
        client, scheme = core.proxies.origin(client, scheme, environ, is_environ=True)
    finish_environ(environ, head, client, scheme, body)
    start = Start.__new__(Start)
    start.begin(environ)
    start.wire, start.early = connection, write_early
    _set_identity(start)
    try:
        return respond_to(core.application, environ, start)
    except Problem as problem:
        if connection.early is None:
            return problem_response(problem, start.id)
        log.info("%s %s: %s after the first byte", head.method, head.path, problem)
    except _FAILURES:
        log.exception("%s %s failed", head.method, head.path)
        if connection.early is None:
            return problem_response(Problem(), start.id)
    return None


def write_early(start: Start, data: bytes) -> None:
    """Send what a WSGI application gives to `write`, before it returns (PEP 3333, "The write() Callable"). Raises `Gone`."""
    connection = start.wire
    stream: Stream | None = connection.early
    if stream is None:
        start.sent = True
        head = connection.head
        keep_alive = head.keep_alive and not connection.server.draining
        reply = compose(start.status, start.headers or [], -1, head.minor, head.method == "HEAD", keep_alive)
        stream = connection.early = Stream(connection, reply)
    stream.send(data)


def _identity(head: RequestHead) -> str:
    return identity_from(head.fields.get("HTTP_X_REQUEST_ID" if head.is_environ else "x-request-id", ""))


def _composed(head: RequestHead, response: Response, size: int, keep_alive: bool) -> Reply:
    return compose(response.status, response.headers, size, head.minor, head.method == "HEAD", keep_alive)


def _send_whole(connection: Connection, head: RequestHead, response: Response, keep_alive: bool, ends_at_once: bool) -> bool:
    """Send head and body. ends_at_once: nothing that may wait comes between this and the end of a connection that is not kept."""
    body: bytes = response.body  # type: ignore[assignment]
    size = len(body)
    try:
        reply = _composed(head, response, size, keep_alive)
    except ValueError as error:
        return _send_fault(connection, head, error, keep_alive)
    if reply.framing > _JOINED_BYTES:
        connection.send_both(b"".join(reply.parts), body if reply.framing >= size else body[: reply.framing])
        return reply.keep_alive
    if reply.framing:
        reply.parts.append(body if reply.framing >= size else body[: reply.framing])
    data = b"".join(reply.parts)
    if not reply.keep_alive and ends_at_once:
        connection.send_last(data)
    elif not reply.keep_alive or not connection.hold(data):
        connection.send(data)
    return reply.keep_alive


def _send_fault(connection: Connection, head: RequestHead, error: BaseException, keep_alive: bool) -> bool:
    log.error("%s %s: the response cannot be sent: %s", head.method, head.path, error, exc_info=error)
    return _send_whole(connection, head, problem_response(Problem(), _identity(head)), keep_alive, False)


def _send_stream(connection: Connection, head: RequestHead, response: Response, keep_alive: bool) -> bool:
    """Send piece by piece; the first piece goes with the head, and an empty first piece sends the head alone."""
    pieces = response.chunks()
    stream: Stream | None = connection.early
    if stream is None:
        try:
            reply = _composed(head, response, -1, keep_alive)
            connection.is_events = (response.header("content-type") or "").startswith("text/event-stream")
            stream = Stream(connection, reply)
            stream.send(_first_piece(connection, stream, pieces) if reply.framing else b"")
        except Problem as problem:
            if stream is not None and stream.has_begun:
                raise
            return _send_whole(connection, head, problem_response(problem, _identity(head)), keep_alive, False)
        except Gone:
            raise
        except _FAILURES as error:
            if stream is not None and stream.has_begun:
                raise
            return _send_fault(connection, head, error, keep_alive)
    if stream.left:
        for piece in pieces:
            stream.send(piece)
            if not stream.left:
                break
    if stream.left > 0:
        log.error("the body was %d bytes shorter than its Content-Length", stream.left)
    return stream.end() and keep_alive


def _first_piece(connection: Connection, stream: Stream, pieces: Iterator[bytes]) -> bytes:
    """Return the first piece of a stream, b"" for none. The head of a stream of events does not wait long for it."""
    if not connection.is_events:
        return next(pieces, b"")
    timer = connection.server.loop.timer(_EVENTS_HEAD_SECONDS)
    timer.start(stream.begin)
    try:
        return next(pieces, b"")
    finally:
        timer.close()


def _send_file(connection: Connection, head: RequestHead, response: Response, file: FileWrapper, keep_alive: bool) -> bool:
    """Send what is left of a file, from the kernel's cache to the socket; a file that has shrunk meanwhile closes the connection."""
    start, size = file.place()
    try:
        reply = _composed(head, response, size, keep_alive)
    except ValueError as error:
        return _send_fault(connection, head, error, keep_alive)
    connection.send(b"".join(reply.parts))
    wanted = min(reply.framing, size)
    sent = connection.send_file(file.fileno(), start, wanted) if wanted > 0 else 0
    if sent < reply.framing:
        log.error("%s: the file was %d bytes shorter than its Content-Length", head.path, reply.framing - sent)
        return False
    return reply.keep_alive


def _close(response: Response) -> None:
    try:
        response.close()
    except _FAILURES:
        log.exception("closing a response failed")
