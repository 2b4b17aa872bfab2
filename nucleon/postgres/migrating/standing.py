"""What the database has and what the folder has, side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from nucleon.postgres.migrating.files import Migration


@dataclass(frozen=True, slots=True)
class Applied:
    """A row of `nucleon_migrations`. finished_at: None while a file without transaction runs, and when it did not reach its end."""

    number: int
    name: str
    checksum: str
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """The difference between a folder and a database.

    pending: files that are not applied. late: those of them before one that is applied, from another branch.
    edited: files that were applied with another text, and what was. unknown: applied ones whose file is not here: the database is newer.
    unfinished: files without transaction whose run broke off.
    """

    pending: tuple[Migration, ...]
    late: tuple[Migration, ...]
    edited: tuple[tuple[Migration, Applied], ...]
    unknown: tuple[Applied, ...]
    unfinished: tuple[Migration, ...]

    @property
    def is_current(self) -> bool:
        """Whether code and database agree."""
        return not (self.pending or self.edited or self.unknown)

    def hindrances(self, *, out_of_order: bool = False) -> Iterator[str]:
        """Say why `nucleon db up` must not go on, and what to do."""
        for one, row in self.edited:
            what = "was changed after it was applied: put it back as it was and write the change as a new migration (`nucleon db new`)"
            if one.name != row.name:
                what = f"has the number of {row.name}, which is applied (from another branch?): give it a number after the last"
            yield f"{one.name} {what}; in development `nucleon db reset` starts over"
        for one in self.pending:
            if one.is_empty:
                yield f"{one.name} has no statement yet: put SQL into it, then `nucleon db up`"
        yield from self._newer()
        if self.late and not out_of_order:
            names = ", ".join(one.name for one in self.late)
            yield (
                f"{names} {_comes(self.late)} before migrations that are applied (from another branch?): give it a number after "
                "the last, or, when the order does not matter, run `nucleon db up --out-of-order`"
            )

    def disagreements(self) -> Iterator[str]:
        """Say how code and database differ, for a service that is about to start, and what to do."""
        yield from (one for one in self.hindrances(out_of_order=True))
        if self.pending:
            names = ", ".join(one.name for one in self.pending[:3]) + (", ..." if self.pending[3:] else "")
            yield f"the database lacks {len(self.pending)} of this code's migrations ({names}): run `nucleon db up`"

    def _newer(self) -> Iterator[str]:
        if self.unknown:
            names = ", ".join(one.name for one in self.unknown[:3]) + (", ..." if self.unknown[3:] else "")
            yield (
                f"the database has migrations that this code does not know ({names}): it is newer than the code. Deploy the code that has "
                "them, or undo them from there with `nucleon db down`, or, when this code works on that schema too, "
                'set migrations_newer = "allow"'
            )


def _comes(several: Sequence[object]) -> str:
    return "comes" if len(several) == 1 else "come"


def compare(files: Sequence[Migration], applied: Sequence[Applied]) -> Standing:
    """Return how a folder and a database differ."""
    rows = {one.number: one for one in applied}
    known = {one.number: one for one in files}
    head = max((one.number for one in applied), default=-1)
    pending = tuple(one for one in files if one.number not in rows or rows[one.number].finished_at is None)
    return Standing(
        pending=pending,
        late=tuple(one for one in pending if one.number < head),
        edited=tuple(
            (one, row) for one in files if (row := rows.get(one.number)) and row.finished_at is not None and row.checksum != one.checksum
        ),
        unknown=tuple(one for one in applied if one.number not in known),
        unfinished=tuple(one for one in pending if one.number in rows),
    )
