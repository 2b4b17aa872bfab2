"""`nucleon dev`: serve while you write."""

import sys

import click

from nucleon.cli import options


@click.command()
@options.target
@click.option("--bind", "binds", multiple=True, metavar="ADDRESS", help="HOST:PORT or unix:PATH; repeatable (default 127.0.0.1:8000).")
@click.option("--config", "folder", metavar="DIR", help="Folder of the settings (default: config/ of the project).")
def command(target: str | None, binds: tuple[str, ...], folder: str | None) -> int:
    """Serve in the development environment with one worker, and again after every change of a file.

    \b
    Example:
      cd shop && nucleon dev
    """
    from nucleon.cli.loading import ask_from
    from nucleon.cli.reloading import watch

    ask = ask_from(target, "development", folder)
    words = [sys.executable, "-m", "nucleon", "serve", *([target] if target else []), "--env", "development", "--workers", "1"]
    for bind in binds:
        words += ["--bind", bind]
    if folder:
        words += ["--config", folder]
    return watch(words, ask.target.project)
