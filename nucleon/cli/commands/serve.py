"""`nucleon serve`: the service, in worker processes."""

import click

from nucleon.cli import options


@click.command()
@options.target
@click.option("--bind", "binds", multiple=True, metavar="ADDRESS", help="HOST:PORT or unix:PATH; repeatable (default 127.0.0.1:8000).")
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes (default: cores; 1 in development).")
@options.settings
def command(target: str | None, binds: tuple[str, ...], workers: int | None, environment: str | None, folder: str | None) -> int:
    """Serve an application: app.py here, a folder, a package, or any WSGI callable as MODULE:APP.

    \b
    Example:
      nucleon serve shop:app --bind 0.0.0.0:8000 --bind unix:/run/shop.sock --workers 4 --env production
    """
    from nucleon.cli.loading import ask_from
    from nucleon.cli.serving import planned, serve

    flags = {"listen.bind": ",".join(binds)} if binds else {}
    if workers is not None:
        flags["process.workers"] = str(workers)
    return serve(planned(ask_from(target, environment, folder, flags)))
