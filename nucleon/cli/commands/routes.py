"""`nucleon routes`: the table of routes."""

import click

from nucleon.cli import options


@click.command()
@options.target
def command(target: str | None) -> int:
    """List the routes and consumers: method, pattern or queue, handler, file and line.

    \b
    Example:
      nucleon routes example_app
    """
    from nucleon.cli.loading import ask_from, imported, is_ours
    from nucleon.cli.table import table
    from nucleon.errors import SetupError

    ask = ask_from(target, None, None)
    application = imported(ask)
    if not is_ours(application):
        raise SetupError(f"{ask.target} is a foreign WSGI application: only a nucleon App tells its routes")
    rows = [(fact.method, fact.pattern, fact.handler, f"{fact.file}:{fact.line}") for fact in application.routes()]
    rows += [("CONSUME", fact.source, fact.handler, f"{fact.file}:{fact.line}") for fact in application.consumers.facts()]
    click.echo(table(("METHOD", "PATTERN", "HANDLER", "WHERE"), rows))
    return 0
