"""`nucleon db up`: apply what is pending."""

import click

from nucleon.cli import options


@click.command()
@options.target
@options.database
@click.option("--out-of-order", is_flag=True, help="Apply migrations that come before applied ones, from another branch.")
@options.settings
def command(target: str | None, database: str | None, out_of_order: bool, environment: str | None, folder: str | None) -> int:
    """Apply the pending migrations, each whole or not at all. Several at once take turns.

    \b
    Example:
      nucleon db up --env production
    """
    from nucleon.cli.databases import chosen
    from nucleon.cli.loading import ask_from, databases_in

    found = chosen(databases_in(ask_from(target, environment, folder)), database)
    from nucleon.postgres.migrating import up  # after the standard library was patched

    for one in found:
        assert one.folder is not None
        applied = up(one.settings, one.folder, tell=click.echo, out_of_order=out_of_order)
        click.echo(f"[{one.name}] {len(applied)} applied" if applied else f"[{one.name}] nothing to do: the schema is current")
    return 0
