"""`nucleon new`: a small typed service to start from."""

import re
from pathlib import Path
from string import Template

import click

from nucleon.errors import SetupError

SERVICE = Path(__file__).parent.parent / "templates" / "service"
NAME = re.compile(r"[a-z][a-z0-9_-]*")


@click.command()
@click.argument("name")
def command(name: str) -> int:
    """Write a new service into the folder NAME: PostgreSQL table, cached read, settings and tests.

    \b
    Example:
      nucleon new shop && cd shop && nucleon dev
    """
    folder = Path(name)
    if not NAME.fullmatch(folder.name):
        raise SetupError(f"{folder.name!r} cannot name a service: use small letters, digits, - and _, beginning with a letter")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SetupError(f"{name} is there already and not empty: choose another name")
    for template in sorted(SERVICE.rglob("*.txt")):
        place = folder / template.relative_to(SERVICE).with_suffix("")
        if place.name == "gitignore":
            place = place.with_name(".gitignore")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(Template(template.read_text(encoding="utf-8")).substitute(name=folder.name), encoding="utf-8")
    click.echo(f"{name} is written; next: cd {name} && nucleon dev")
    return 0
