"""A WSGI application for tools that attack: it reads the body, and answers a little or much."""

from collections.abc import Callable
from typing import Any

BIG = b"x" * 3_000_000  # more than the kernel buffers for one connection


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    environ["wsgi.input"].read()
    body = BIG if environ["PATH_INFO"] == "/big" else b"hello"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
