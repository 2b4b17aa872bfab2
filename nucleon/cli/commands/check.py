"""`nucleon check`: would it start?"""

import click

from nucleon.cli import options


@click.command()
@options.target
@options.settings
def command(target: str | None, environment: str | None, folder: str | None) -> int:
    """Import the application, load its settings and check its routes, the names of its migrations and the files of TLS. Starts nothing.

    \b
    Example:
      nucleon check shop:app --env production
    """
    from nucleon.cli.databases import databases_of
    from nucleon.cli.loading import ask_from, imported, is_ours, settings_of
    from nucleon.config import EMBEDDED_ENVIRONMENTS, refuse_missing_servers
    from nucleon.server import certificate_of

    ask = ask_from(target, environment, folder)
    application = imported(ask)
    config = settings_of(application, ask)
    if config.environment not in EMBEDDED_ENVIRONMENTS:
        refuse_missing_servers(config, application.optional if is_ours(application) else ())
    certificate_of(config.sections["server"])
    if is_ours(application):
        application.check()
        for one in databases_of(application, config, ask.target):
            if one.folder is not None:
                from nucleon.postgres.migrating import read

                read(one.folder)
        found = (_counted(len(list(application.routes())), "route"), _counted(len(application.consumers), "consumer"))
        click.echo(f"{ask.target} is fine in environment {config.environment}: {', '.join(found[: 2 if application.consumers else 1])}")
    else:
        click.echo(f"{ask.target} is fine in environment {config.environment}: a WSGI application")
    return 0


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
