"""`nucleon worker`: the consumers, in worker processes of their own."""

import click

from nucleon.cli import options


@click.command()
@options.target
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes (default: cores; 1 in development).")
@options.settings
def command(target: str | None, workers: int | None, environment: str | None, folder: str | None) -> int:
    """Run the consumers of an application, without HTTP. With [app] consume = false, `nucleon serve` leaves them to this.

    SIGTERM: nothing more is taken, what nobody works on goes back to its queue, the rest finishes.

    \b
    Example:
      nucleon worker example_app --workers 2
    """
    from nucleon.cli.consuming import work
    from nucleon.cli.loading import ask_from

    return work(ask_from(target, environment, folder, {} if workers is None else {"process.workers": str(workers)}))
