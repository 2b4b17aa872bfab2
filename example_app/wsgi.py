"""The example for another WSGI server: `gunicorn -k gevent example_app.wsgi:app`."""

from nucleon import green

green.patch()

from pathlib import Path  # noqa: E402

from example_app import app, service  # noqa: E402
from nucleon.config import configure  # noqa: E402
from nucleon.postgres.migrating import be_current  # noqa: E402

configure(app)
# `nucleon serve` does this by itself: refuse to start on another schema than the code's (`nucleon db up example_app` applies it)
be_current(service.db.settings, Path(__file__).with_name("migrations"), "postgres", may_apply=False, tell=print)
app.start()  # the other server calls no start hooks; it imports this module once in each worker (no `--preload`)

__all__ = ["app"]
