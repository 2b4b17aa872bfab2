"""Make the standard library and psycopg2 wait in the hub, before anything else is imported."""

import sys

from nucleon.errors import SetupError

TOO_EARLY = ("psycopg2", "redis", "requests", "urllib3", "httpx", "pika", "flask", "django", "concurrent.futures.thread")
"""Modules that keep names of the unpatched library, or start threads, when they are imported first."""


def patch() -> None:
    """Patch the standard library (gevent) and psycopg2 (psycogreen); a second call does nothing.

    Raises `SetupError` that names a module which was imported too early.
    """
    from gevent import monkey

    if not monkey.is_module_patched("socket"):
        early = [name for name in TOO_EARLY if name in sys.modules]
        if early:
            raise SetupError(
                f"{', '.join(early)} was imported before nucleon could patch the standard library: "
                "run the program with `nucleon serve`, or call nucleon.green.patch() first"
            )
        monkey.patch_all()
    try:
        from psycogreen.gevent import patch_psycopg
    except ModuleNotFoundError:  # the postgres extra is not installed
        return
    from psycopg2.extensions import get_wait_callback

    if get_wait_callback() is None:  # connections that were made before keep theirs: ours know the deadline
        patch_psycopg()
