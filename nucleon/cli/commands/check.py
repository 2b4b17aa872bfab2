"""`nucleon check`: would it start?"""

import click

from nucleon.cli import options


@click.command()
@options.target
@options.settings
def command(target: str | None, environment: str | None, folder: str | None) -> int:
    """Import the application, load its settings and check its routes and the names of its migrations, without serving or starting anything.

    \b
    Example:
      nucleon check shop:app --env production
    """
    from nucleon.cli.databases import databases_of
    from nucleon.cli.loading import ask_from, imported, is_ours, settings_of
    from nucleon.config import EMBEDDED_ENVIRONMENTS, refuse_missing_servers

    ask = ask_from(target, environment, folder)
    application = imported(ask)
    config = settings_of(application, ask)
    if config.environment not in EMBEDDED_ENVIRONMENTS:
        refuse_missing_servers(config, application.optional if is_ours(application) else ())
    if is_ours(application):
        application.check()
        for one in databases_of(application, config, ask.target):
            if one.folder is not None:
                from nucleon.postgres.migrating import read

                read(one.folder)
        consumers = f", {len(application.consumers)} consumers" if application.consumers else ""
        click.echo(f"{ask.target} is fine in environment {config.environment}: {len(list(application.routes()))} routes{consumers}")
    else:
        click.echo(f"{ask.target} is fine in environment {config.environment}: a WSGI application")
    return 0
