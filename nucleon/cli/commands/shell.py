"""`nucleon shell`: Python with the application at hand."""

import code

import click

from nucleon.cli import options


@click.command()
@options.target
@options.settings
def command(target: str | None, environment: str | None, folder: str | None) -> int:
    """Open a Python shell inside an application's scope; `app` and `scope` are there.

    \b
    Example:
      nucleon shell example_app
      >>> from example_app import close_stale_orders; scope.call(close_stale_orders)
    """
    from nucleon.cli.loading import ask_from, running

    with running(ask_from(target, environment, folder)) as (application, scope):
        code.interact("app, scope", local={"app": application, "scope": scope}, exitmsg="")
    return 0
