"""`nucleon db down`: undo, where that was written."""

import click

from nucleon.cli import options


@click.command()
@options.target
@options.database
@click.option("--to", type=click.IntRange(min=0), metavar="NUMBER", help="Undo all after this number (default: the last one only).")
@click.option("--yes", is_flag=True, help="Do it, also outside development and test.")
@options.settings
def command(target: str | None, database: str | None, *, to: int | None, yes: bool, environment: str | None, folder: str | None) -> int:
    """Undo the last migration with its NUMBER_name.down.sql; what that drops is lost.

    \b
    Example:
      nucleon db down --to 3
    """
    from nucleon.cli.databases import chosen
    from nucleon.cli.loading import ask_from, databases_in
    from nucleon.config import EMBEDDED_ENVIRONMENTS, environment_name
    from nucleon.errors import SetupError

    found = chosen(databases_in(ask_from(target, environment, folder)), database)
    if len(found) > 1:
        raise click.UsageError(f"there are several databases: say --database {found[0].name} or another")
    if environment_name() not in EMBEDDED_ENVIRONMENTS and not yes:
        raise SetupError(f"this undoes migrations in {found[0].place}, environment {environment_name()}: say --yes if that is meant")
    from nucleon.postgres.migrating import down  # after the standard library was patched

    assert found[0].folder is not None
    undone = down(found[0].settings, found[0].folder, to=to, tell=click.echo)
    click.echo(f"[{found[0].name}] {len(undone)} undone")
    return 0
