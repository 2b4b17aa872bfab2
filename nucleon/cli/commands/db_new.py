"""`nucleon db new`: an empty migration."""

import click


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="WHAT IT DOES")
@click.option("--app", "target", metavar="MODULE:APP", help="The application (default: app.py here).")
@click.option("--database", metavar="NAME", help="The resource's name, when there are several.")
def command(words: tuple[str, ...], target: str | None, database: str | None) -> int:
    """Write an empty migration with the next number.

    \b
    Example:
      nucleon db new create items
    """
    from nucleon.cli.databases import code_folder, databases_of
    from nucleon.cli.loading import ask_from, imported, settings_of
    from nucleon.errors import SetupError

    ask = ask_from(target, None, None)
    application = imported(ask)
    from nucleon.postgres.migrating import write_new  # after the standard library was patched

    databases = databases_of(application, settings_of(application, ask), ask.target)
    found = [one for one in databases if one.name == (database or databases[0].name)]
    if not found:
        known = ", ".join(one.name for one in databases) or "none: db = app.use(Postgres())"
        raise SetupError(f"{ask.target} has no such database; known are {known}")
    base = code_folder(ask.target) / "migrations"
    folder = found[0].folder or (base if found[0].name == "postgres" else base / found[0].name)
    path = write_new(folder, " ".join(words))
    click.echo(f"{path} is written: put SQL into it, then `nucleon db up`")
    return 0
