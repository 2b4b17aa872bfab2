"""`nucleon db`: the schema and its migrations."""

import importlib

import click

COMMANDS = ("new", "up", "down", "status", "check", "reset")


class Commands(click.Group):
    """Imports the file of a command only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command, or None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"nucleon.cli.commands.db_{cmd_name}").command
        return command


@click.group(cls=Commands)
def command() -> None:
    """Migrations (numbered .sql files in migrations/) and a check of the app's statements.

    \b
    Example:
      nucleon db new create items
      nucleon db up
    """
