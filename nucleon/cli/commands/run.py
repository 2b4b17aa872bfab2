"""`nucleon run`: call a function of the application from the command line."""

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--app", "target", metavar="MODULE:APP", help="The application (default: app.py here, or what the function's package has).")
@click.option("--config", "folder", metavar="DIR", help="Folder of the settings.")
@click.option("--env", "environment", metavar="NAME", help="Environment (default: NUCLEON_ENV, else development).")
@click.argument("function")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[--NAME VALUE]...")
def command(function: str, words: tuple[str, ...], target: str | None, folder: str | None, environment: str | None) -> int:
    """Call FUNCTION (MODULE:NAME, or a name in the application's module) with typed arguments and the app's resources.

    \b
    Example:
      nucleon run example_app:close_stale_orders --days 30
    """
    from nucleon.app.scope import NotGiven
    from nucleon.cli.calling import arguments_from, function_from
    from nucleon.cli.loading import ask_from, running

    module, colon, name = function.rpartition(":")
    ask = ask_from(target or (module.partition(".")[0] if colon else None), environment, folder)
    with running(ask) as (_application, scope):
        called = function_from(module or ask.target.module, name)
        try:
            result = scope.call(called, **arguments_from(called, words))
        except NotGiven as error:
            raise click.UsageError(str(error)) from error
        if result is not None:
            import msgspec

            click.echo(result if isinstance(result, str) else msgspec.json.encode(result))
    return 0
