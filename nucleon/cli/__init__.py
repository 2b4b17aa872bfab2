"""The `nucleon` command, one file per subcommand. Nothing here imports gevent before `green.patch()` runs."""

from nucleon.cli.group import main

__all__ = ["main"]
