"""A WSGI application that sends and takes large bodies: `python transfer.py PORT nucleon|bjoern|fastpysgi FILE [CHAIN]`."""

import sys
from pathlib import Path

PIECE = 65_536
FILE = sys.argv[3] if len(sys.argv) > 3 else ""
CHAIN = sys.argv[4] if len(sys.argv) > 4 else ""
SIZE = 10_000_000
WHOLE = bytes(SIZE)
PLAIN = [("Content-Type", "application/octet-stream"), ("Content-Length", str(SIZE))]


def pieces():
    """Make the body while it is sent, one piece at a time."""
    left = SIZE
    while left > 0:
        yield bytes(min(PIECE, left))
        left -= PIECE


def received(source):
    """Count a body without keeping it."""
    count = 0
    while piece := source.read(PIECE):
        count += len(piece)
    return count


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path in ("/upload", "/whole"):
        source = environ["wsgi.input"]
        body = b"%d" % (received(source) if path == "/upload" else len(source.read()))
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
    start_response("200 OK", PLAIN)
    if path == "/file":
        file = Path(FILE).open("rb")  # noqa: SIM115 - the server closes it
        wrapper = environ.get("wsgi.file_wrapper")
        return wrapper(file, PIECE) if wrapper else iter(lambda: file.read(PIECE), b"")
    return [WHOLE] if path == "/memory" else pieces()


def serve_ours(port):
    import socket

    from nucleon import green

    green.patch()
    from nucleon.process import keep_freed_memory
    from nucleon.server import Server, Settings

    keep_freed_memory()  # as workers do
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        server = Server(app, Settings(body_bytes=2 * SIZE, tls_certificate=CHAIN))
        server.add_listener(listener)
        server.serve_forever()


if __name__ == "__main__":
    if sys.argv[2] == "nucleon":
        serve_ours(int(sys.argv[1]))
    elif sys.argv[2] == "fastpysgi":
        import fastpysgi

        fastpysgi.run(app, "127.0.0.1", int(sys.argv[1]))
    else:
        import bjoern

        bjoern.run(app, "127.0.0.1", int(sys.argv[1]))
