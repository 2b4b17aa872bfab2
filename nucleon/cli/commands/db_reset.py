"""`nucleon db reset`: an empty database with the schema of the code."""

import click

from nucleon.cli import options


@click.command()
@options.target
@options.database
@click.option("--yes", is_flag=True, help="Do it also when the server is not the embedded one of the project.")
@options.settings
def command(target: str | None, database: str | None, yes: bool, environment: str | None, folder: str | None) -> int:
    """Drop everything in the database and apply all migrations; only in development and test.

    \b
    Example:
      nucleon db reset
    """
    from nucleon.cli.databases import chosen
    from nucleon.cli.loading import ask_from, databases_in
    from nucleon.config import EMBEDDED_ENVIRONMENTS, environment_name
    from nucleon.errors import SetupError

    ask = ask_from(target, environment, folder)
    if environment_name(ask.environment) not in EMBEDDED_ENVIRONMENTS:
        raise SetupError(f"nucleon db reset deletes all data: it runs only in development and test, this is {environment_name()}")
    found = chosen(databases_in(ask), database)
    for one in found:
        if not one.is_embedded and not yes:
            raise SetupError(f"this deletes everything in {one.place}: say --yes if that is meant")
    from nucleon.postgres.migrating import reset  # after the standard library was patched

    for one in found:
        assert one.folder is not None
        applied = reset(one.settings, one.folder, tell=click.echo)
        click.echo(f"[{one.name}] empty again, {len(applied)} migrations applied")
    return 0
