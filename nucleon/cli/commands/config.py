"""`nucleon config`: every setting and where it came from."""

import click

from nucleon.cli import options


@click.command()
@options.target
@options.settings
def command(target: str | None, environment: str | None, folder: str | None) -> int:
    """Print every setting with its value and origin; secrets are masked.

    \b
    Example:
      nucleon config example_app --env production
    """
    from nucleon.cli.loading import ask_from, imported, settings_of
    from nucleon.cli.table import table

    ask = ask_from(target, environment, folder)
    config = settings_of(imported(ask), ask)
    click.echo(f"environment {config.environment}, files in {config.folder or 'no folder'}")
    rows = [(f"{section}.{field}", value, origin) for section, field, value, origin in config.rows()]
    click.echo(table(("SETTING", "VALUE", "ORIGIN"), rows))
    return 0
