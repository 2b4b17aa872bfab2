"""The example for another WSGI server: `gunicorn -k gevent example_app.wsgi:app`."""

from nucleon import green

green.patch()

from example_app import app  # noqa: E402
from nucleon.config import configure  # noqa: E402

configure(app)
app.start()  # the other server calls no start hooks; it imports this module once in each worker (no `--preload`)

__all__ = ["app"]
