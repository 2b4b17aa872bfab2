"""`nucleon db`: the schema and its migrations."""


import click

from nucleon.cli.lazy import LazyGroup

COMMANDS = ("new", "up", "down", "status", "check", "reset")


@click.group(cls=LazyGroup, names=COMMANDS, prefix="db_")
def command() -> None:
    """Migrations (numbered .sql files in migrations/) and a check of the app's statements.

    \b
    Example:
      nucleon db new create items
      nucleon db up
    """
