"""The example for another WSGI server: `gunicorn -k gevent example_app.wsgi:app`."""

from nucleon import green

green.patch()

from example_app import app  # noqa: E402
from nucleon.config import configure  # noqa: E402

configure(app)

__all__ = ["app"]
