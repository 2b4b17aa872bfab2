"""One exchange: a request to the application, its response to the wire. Runs on a worker greenlet."""

import logging
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from nucleon import green, hooks
from nucleon.errors import Problem
from nucleon.http import CHUNKED, reply_head
from nucleon.message import Headers, Request, Response
from nucleon.server.body import Body
from nucleon.server.connection import CLOSED, Connection, Gone

if TYPE_CHECKING:
    from nucleon.http import RequestHead
    from nucleon.server.server import Server

log = logging.getLogger("nucleon.server")


def run_exchange(server: "Server", connection: Connection, head: "RequestHead") -> bool:
    """Answer one request. True: the connection may carry another one. Never raises an `Exception`."""
    body = Body(connection, head, connection.head_bytes) if head.chunked or head.content_length > 0 else None
    request = _request_from(server, connection, head, body)
    hooks.request_id.set(request.id)
    green.deadline_at.set(request.deadline_at)
    response = _answer_of(server, request)
    connection.overdue_at = 0.0
    keep_alive = head.keep_alive and not server.draining
    if body is not None and (not body.is_finished() or body.broken):
        keep_alive = False
    if connection.eof and not connection.pending:
        keep_alive = False
    try:
        if isinstance(response.body, bytes):
            return _send_whole(connection, request, response, response.body, keep_alive)
        green.deadline_at.set(None)  # a stream may last; each write has its own limit
        return _send_stream(connection, request, response, keep_alive)
    except Gone as gone:
        log.info("the client of %s %s has gone: %s", request.method, request.path, gone)
        connection.close()
        return False
    except Exception:
        log.exception("%s %s failed while its answer was sent", request.method, request.path)
        connection.close()
        return False
    finally:
        _close(response)


def _request_from(server: "Server", connection: Connection, head: "RequestHead", body: Body | None) -> Request:
    client, scheme = connection.peer, "http"
    if server.proxies:
        client, scheme = server.proxies.origin(client, scheme, head.fields)
    return Request(
        head.method, head.path, head.query, Headers(head.fields), body,
        scheme=scheme, client=client, version="HTTP/1.1" if head.minor else "HTTP/1.0",
        deadline_at=connection.overdue_at - server.grace_seconds,
    )  # fmt: skip


def _answer_of(server: "Server", request: Request) -> Response:
    try:
        return server.respond(request)
    except Problem as problem:
        return problem_response(problem, request.id)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return problem_response(Problem(), request.id)


def problem_response(problem: Problem, request_id: str) -> Response:
    """Return the problem as `application/problem+json`."""
    document = msgspec.json.encode(problem.document(request_id=request_id))
    headers = [("X-Request-Id", request_id), *problem.headers.items()]
    return Response(document, problem.status, headers, content_type="application/problem+json")


def _head_of(request: Request, response: Response, size: int, keep_alive: bool) -> tuple[bytes, int, bool]:
    minor = 1 if request.version == "HTTP/1.1" else 0
    return reply_head(response.status, response.headers, size, minor=minor, to_head=request.method == "HEAD", keep_alive=keep_alive)


def _send_whole(connection: Connection, request: Request, response: Response, body: bytes, keep_alive: bool) -> bool:
    try:
        head, framing, keep_alive = _head_of(request, response, len(body), keep_alive)
    except ValueError as error:
        return _send_fault(connection, request, error, keep_alive)
    connection.send(head + body[:framing] if framing < len(body) else head + body)
    return keep_alive


def _send_fault(connection: Connection, request: Request, error: Exception, keep_alive: bool) -> bool:
    log.error("%s %s: the response cannot be sent: %s", request.method, request.path, error, exc_info=error)
    fault = problem_response(Problem(), request.id)
    body = fault.body if isinstance(fault.body, bytes) else b""
    head, framing, keep_alive = _head_of(request, fault, len(body), keep_alive)
    connection.send(head + body[:framing])
    return keep_alive


def _send_stream(connection: Connection, request: Request, response: Response, keep_alive: bool) -> bool:
    """Send piece by piece; the first piece goes with the head, and an empty first piece sends the head alone."""
    pieces = response.chunks()
    try:
        head, framing, keep_alive = _head_of(request, response, -1, keep_alive)
        first = _bytes(next(pieces, b"")) if framing else b""
    except Problem as problem:
        return _send_problem(connection, request, problem, keep_alive)
    except Exception as error:  # noqa: BLE001 - the application's iterable may raise anything; it is logged and answered with 500
        return _send_fault(connection, request, error, keep_alive)
    if framing == 0:
        connection.send(head)
        return keep_alive
    if framing == CHUNKED:
        _send_chunked(connection, head, first, pieces)
        return keep_alive
    return _send_counted(connection, head, first, pieces, framing) and keep_alive


def _send_problem(connection: Connection, request: Request, problem: Problem, keep_alive: bool) -> bool:
    answer = problem_response(problem, request.id)
    return _send_whole(connection, request, answer, answer.body if isinstance(answer.body, bytes) else b"", keep_alive)


def _bytes(piece: object) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, (bytearray, memoryview)):
        return bytes(piece)
    raise TypeError(f"a body consists of bytes, not {type(piece).__name__}")


def _send_chunked(connection: Connection, head: bytes, first: bytes, pieces: Iterator[bytes]) -> None:
    connection.send(head + (b"%x\r\n%b\r\n" % (len(first), first) if first else b""))
    for piece in pieces:
        data = _bytes(piece)
        if data:
            connection.send(b"%x\r\n%b\r\n" % (len(data), data))
    connection.send(b"0\r\n\r\n")


def _send_counted(connection: Connection, head: bytes, first: bytes, pieces: Iterator[bytes], size: int) -> bool:
    """Send `size` bytes (-1: as many as come). False: the connection has to be closed to end the body."""
    left = size
    held = head
    for piece in chain((first,), pieces):
        data = _bytes(piece)
        if 0 <= left < len(data):
            data = data[:left]
        if held or data:
            connection.send(held + data)
        held = b""
        if left >= 0:
            left -= len(data)
            if left == 0:
                return True
    if left > 0:
        log.error("the body was %d bytes shorter than its Content-Length", left)
    return False


def _close(response: Response) -> None:
    try:
        response.close()
    except Exception:
        log.exception("closing a response failed")


def end_exchange(connection: Connection, keep_alive: bool) -> None:
    """Put the connection back to reading, or close it so that the answer arrives."""
    if connection.state == CLOSED:
        return
    if keep_alive:
        connection.resume()
    else:
        connection.linger()
