"""`nucleon db status`: which migrations are applied."""

import click

from nucleon.cli import options


@click.command()
@options.target
@options.database
@options.settings
def command(target: str | None, database: str | None, environment: str | None, folder: str | None) -> int:
    """List the migrations and their state, and say what to do. Exits 1 when code and database disagree.

    \b
    Example:
      nucleon db status --env production
    """
    from nucleon.cli.databases import chosen
    from nucleon.cli.loading import ask_from, databases_in
    from nucleon.cli.table import table

    found = chosen(databases_in(ask_from(target, environment, folder)), database)
    from nucleon.postgres.migrating import report  # after the standard library was patched

    is_current = True
    for one in found:
        assert one.folder is not None
        rows, remarks = report(one.settings, one.folder)
        click.echo(f"[{one.name}] {one.place}, files in {one.folder}")
        if rows:
            click.echo(table(("NUMBER", "FILE", "STATE", "APPLIED"), rows))
        for remark in remarks:
            click.echo(remark)
        is_current = is_current and not remarks
    return 0 if is_current else 1
