"""What `nucleon db status` tells."""

from pathlib import Path

from nucleon.postgres.migrating.applying import invalid_indexes
from nucleon.postgres.migrating.files import read
from nucleon.postgres.migrating.session import opened
from nucleon.postgres.migrating.standing import compare
from nucleon.postgres.settings import Settings


def report(settings: Settings, folder: Path) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    """Return a row (number, file, state, applied at) for each migration, and what is to be done; nothing when all is well."""
    files = read(folder)
    with opened(settings) as session:
        applied = {one.number: one for one in session.applied()}
        found = compare(files, list(applied.values()))
        remarks = list(found.disagreements())
        for migration in found.unfinished:
            left = ", ".join(name for _schema, name in invalid_indexes(session, migration.text))
            what = f" and left index {left} INVALID, which it drops first" if left else ""
            remarks.append(f"{migration.name} did not reach its end{what}: `nucleon db up` tries it again (unless it is running now)")
    names = {**{one.number: one.name for one in applied.values()}, **{one.number: one.name for one in files}}
    rows = []
    for number in sorted(names):
        if number in {one.number for one in found.unknown}:
            state = "not in this code"
        elif number in {one.number for one in found.unfinished}:
            state = "unfinished"
        elif number in {one.number for one in found.pending}:
            state = "pending"
        else:
            state = "edited" if number in {one.number for one, _row in found.edited} else "applied"
        at = applied[number].finished_at if number in applied else None
        rows.append((str(number), names[number], state, "" if at is None else at.isoformat(" ", "seconds")))
    return rows, remarks
