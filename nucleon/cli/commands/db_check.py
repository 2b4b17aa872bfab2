"""`nucleon db check`: the statements in the code against the database."""

import click

from nucleon.cli import options


@click.command()
@options.target
@options.settings
def command(target: str | None, environment: str | None, folder: str | None) -> int:
    """Prepare every statement that the application's modules hold, and compare its columns with the model it is read as.

    Nothing is executed. Exits 1 when there are faults. Statements that are built at run time are listed as unchecked.

    \b
    Example:
      nucleon db check shop:app --env test
    """
    from nucleon.cli.databases import modules_of
    from nucleon.cli.loading import ask_from, prepared
    from nucleon.errors import SetupError

    ask = ask_from(target, environment, folder)
    program = prepared(ask, only_databases=True)
    resources = {name: one for name, one in getattr(program.application, "resources", {}).items() if getattr(one, "kind", "") == "postgres"}
    if not resources:
        raise SetupError(f"{ask.target} uses no PostgreSQL: db = app.use(Postgres())")
    from nucleon.postgres.checking import check_modules  # after the standard library was patched

    report = check_modules(modules_of(ask.target), resources, ask.target.project)
    for line in report.faults:
        click.echo(line)
    for line in report.remarks:
        click.echo(f"{line} (a remark)")
    for line in report.unchecked:
        click.echo(f"{line} (unchecked)")
    click.echo(
        f"{report.checked} statements checked, {len(report.unchecked)} unchecked, "
        f"{len(report.remarks)} remarks, {len(report.faults)} fault{'' if len(report.faults) == 1 else 's'}"
    )
    return 1 if report.faults else 0
