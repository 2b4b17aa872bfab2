"""The miniature for another WSGI server."""

from nucleon import green

green.patch()

from miniature import app  # noqa: E402

from nucleon.config import configure  # noqa: E402

configure(app)
