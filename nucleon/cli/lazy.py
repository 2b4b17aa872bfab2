"""Groups whose commands have a file each."""

import importlib
from typing import Any

import click


class LazyGroup(click.Group):
    """Imports the file of a command only when that command is asked for.

    names: of the commands, in the order of use. prefix: in front of a name it is the module in `nucleon.cli.commands`.
    """

    def __init__(self, *values: Any, names: tuple[str, ...] = (), prefix: str = "", **options: Any) -> None:
        super().__init__(*values, **options)
        self._names, self._prefix = names, prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of use."""
        return list(self._names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command, or None when there is none of that name."""
        if cmd_name not in self._names:
            return None
        command: click.Command = importlib.import_module(f"nucleon.cli.commands.{self._prefix}{cmd_name}").command
        return command
