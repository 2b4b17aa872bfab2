"""A WSGI application and nothing else: the floor of every server."""

BODY = b'{"message":"Hello, world!"}'
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]


def app(environ, start_response):
    start_response("200 OK", HEADERS)
    return [BODY]


if __name__ == "__main__":
    import sys

    if sys.argv[2:] == ["fastpysgi"]:
        import fastpysgi

        fastpysgi.run(app, "127.0.0.1", int(sys.argv[1]))
    else:
        import bjoern

        bjoern.run(app, "127.0.0.1", int(sys.argv[1]))
