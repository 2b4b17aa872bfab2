"""A WSGI application and nothing else: the floor of every server."""

BODY = b'{"message":"Hello, world!"}'
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]


def app(environ, start_response):
    start_response("200 OK", HEADERS)
    return [BODY]


if __name__ == "__main__":
    import sys

    import bjoern

    bjoern.run(app, "127.0.0.1", int(sys.argv[1]))
