"""The command group: which commands there are, how errors end, and `--version`."""

import platform
import sys
from collections import Counter
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

import click

import nucleon
from nucleon.cli.lazy import LazyGroup
from nucleon.errors import SetupError

COMMANDS = ("new", "dev", "serve", "worker", "routes", "shell", "run", "config", "check", "db", "embedded")


def _show_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    try:
        gevent = version("gevent")
    except PackageNotFoundError:
        gevent = "missing"
    click.echo(f"nucleon {nucleon.__version__}, Python {platform.python_version()}, gevent {gevent}, {_compiled()}")
    context.exit()


def _compiled() -> str:
    """Tell how many files of each room run compiled; looks at the files, imports nothing."""
    house = Path(nucleon.__file__).parent
    rooms = Counter(
        file.relative_to(house).parts[0].partition(".")[0] for file in house.rglob("*") if file.name.endswith(tuple(EXTENSION_SUFFIXES))
    )
    return "compiled: " + ", ".join(f"{room} {count}" for room, count in sorted(rooms.items())) if rooms else "not compiled"


@click.group(cls=LazyGroup, names=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Tell the versions in use.")
def commands() -> None:
    """JSON web services in plain synchronous Python on greenlets.

    \b
    Example:
      nucleon new shop && cd shop && nucleon dev
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 it failed, 2 used wrongly."""
    try:
        outcome = commands.main(args=arguments, prog_name="nucleon", standalone_mode=False)
    except click.UsageError as error:
        where = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        _fail(error.format_message() + where, 2)
    except click.ClickException as error:
        _fail(error.format_message(), 1)
    except click.Abort:
        _fail("interrupted", 1)
    except SetupError as error:
        _fail(str(error), 1)
    sys.exit(outcome if isinstance(outcome, int) else 0)


def _fail(message: str, status: int) -> NoReturn:
    line = "; ".join(" ".join(fault.split()) for fault in message.splitlines() if fault.strip())
    click.echo(f"nucleon: {line}", err=True)
    sys.exit(status)
