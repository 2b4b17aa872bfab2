"""`nucleon embedded`: a server for development that is not started by itself."""

import os
import signal
import time
from pathlib import Path
from types import FrameType

import click

LOOK_SECONDS = 0.2


@click.group()
def command() -> None:
    """Run a server for development in the foreground.

    \b
    Example:
      nucleon embedded rabbitmq
    """


@command.command()
@click.option("--project", metavar="DIR", default=".", help="The project whose node this is (default: this folder).")
@click.option("--fetch-only", is_flag=True, help="Only make sure that RabbitMQ's programs are there.")
def rabbitmq(project: str, fetch_only: bool) -> int:
    """Run a private RabbitMQ of this project until Ctrl-C, and say which AMQP_URL to set; the data stay below .nucleon.

    The first time RabbitMQ is fetched from Debian's packages and unpacked below ~/.cache/nucleon; nothing is installed.
    `nucleon dev` and `nucleon serve` in development find the running node of their project by themselves.

    \b
    Example:
      nucleon embedded rabbitmq
    """
    from nucleon.embedded import RabbitServer
    from nucleon.embedded.project import Layout
    from nucleon.embedded.rabbitmq_packages import rabbitmq_programs
    from nucleon.errors import SetupError

    if os.environ.get("NUCLEON_ENV") == "production":
        raise SetupError("embedded services are never used in production: set NUCLEON_AMQP__URL")
    if not Path(project).is_dir():
        raise SetupError(f"--project {project}: there is no such folder")
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background job begins with SIGINT ignored
        signal.signal(number, _interrupt)
    if fetch_only:
        click.echo(f"RabbitMQ is in {rabbitmq_programs(_say).scripts}")
        return 0
    server = RabbitServer(Layout.of(Path(project)).home, say=_say)
    try:
        server.start()
        click.echo(f"RabbitMQ runs, data in {server.data}; Ctrl-C stops it. What the service needs in its environment:")
        click.echo(f"export AMQP_URL={server.url}")
        while server.is_running():
            time.sleep(LOOK_SECONDS)
        raise SetupError(f"RabbitMQ stopped by itself: see {server.log}")
    except KeyboardInterrupt:
        click.echo("stopping RabbitMQ", err=True)
        return 0
    finally:
        server.stop()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    click.echo(line, err=True)
