"""Check every statement of some modules against a database, and tell it in lines."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from nucleon.postgres.checking.comparing import Catalog, PostgresType, compare
from nucleon.postgres.checking.describing import Column, Refused, Uncertain, describe, placeholders
from nucleon.postgres.checking.finding import ON_TABLES, UNKNOWN, Call, Reader
from nucleon.postgres.client import Postgres
from nucleon.postgres.migrating.files import line_of, statements_in
from nucleon.postgres.migrating.session import Session, opened

TYPES = """
with recursive wanted as (
    select oid, typname, typtype, typelem, typbasetype, typcategory from pg_type where oid = any(%s::oid[])
    union
    select t.oid, t.typname, t.typtype, t.typelem, t.typbasetype, t.typcategory
    from wanted w join pg_type t on t.oid in (w.typelem, w.typbasetype)
)
select oid::bigint, typname, typtype::text, typelem::bigint, typbasetype::bigint, typcategory::text,
    array(select enumlabel::text from pg_enum where enumtypid = wanted.oid order by enumsortorder)
from wanted"""
NULLABLE = """
select attrelid::bigint, attnum::int from pg_attribute join pg_class on pg_class.oid = attrelid
where attrelid = any(%s::oid[]) and not attnotnull and attnum > 0 and relkind in ('r', 'p')"""


@dataclass(slots=True)
class Report:
    """What was found. faults, remarks, unchecked: lines `file:line: what; what to do`."""

    checked: int = 0
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def check_modules(modules: Sequence[ModuleType], resources: Mapping[str, Postgres], base: Path) -> Report:
    """Prepare each statement that the modules hold on its database and compare its columns. Files are told from `base`.

    Raises `SetupError` when a database cannot be reached.
    """
    report = Report()
    calls: dict[int, list[Call]] = {}
    for module in modules:
        for call in Reader(module, resources).calls(_source(module)):
            if call.text is None or call.resource is None:
                report.unchecked.append(f"{_place(call, base)}: {call.reason}")
            else:
                calls.setdefault(id(call.resource), []).append(call)
    for resource in resources.values():
        mine = calls.pop(id(resource), [])
        if mine:
            with opened(resource.settings) as session:
                for call in mine:
                    _check(call, session, report, base)
    for call in (one for rest in calls.values() for one in rest):
        report.unchecked.append(f"{_place(call, base)}: its database is not one that the application uses (app.use)")
    return report


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):  # it has none any more
        return ""


def _check(call: Call, session: Session, report: Report, base: Path) -> None:
    assert call.text is not None
    if faults := list(_faults_of_values(call)):
        report.checked += 1
        report.faults += [f"{_place(call, base)}: {one}" for one in faults]
        return
    text, has_values = _whole(call)
    if text is None:
        report.unchecked.append(f"{_place(call, base)}: a list of rows whose columns are not named (insert into t (a, b) values %s)")
        return
    if len(list(statements_in(text))) > 1:
        report.unchecked.append(f"{_place(call, base)}: several statements in one text")
        return
    try:
        columns = describe(session.connection, text, has_values=has_values)
    except Uncertain as why:
        report.unchecked.append(f"{_place(call, base)}: the values decide ({why})")
        return
    except Refused as refusal:
        report.checked += 1
        hint = f". {refusal.hint}" if refusal.hint else ""
        report.faults.append(f"{_place(call, base, refusal.position)}: {refusal.message} ({refusal.code}){hint}")
        return
    report.checked += 1
    if missing := sorted(call.columns - {column.name for column in columns}):
        what = "the table" if call.method in ON_TABLES else "the statement"
        report.faults.append(
            f"{_place(call, base)}: {what} has no column {', '.join(missing)}: it has {', '.join(one.name for one in columns)}"
        )
    if call.kind is UNKNOWN or call.method in ("execute", "many", "delete") or (call.kind is None and columns):
        return
    try:
        differences = list(compare(call.kind, columns, _catalog(session, columns), text))
    except (NameError, TypeError) as error:
        report.unchecked.append(f"{_place(call, base)}: the columns, for the fields of {call.kind} cannot be read: {error}")
        return
    for is_fault, what in differences:
        if is_fault or call.method not in ON_TABLES:
            (report.faults if is_fault else report.remarks).append(f"{_place(call, base)}: {what}")


def _faults_of_values(call: Call) -> Iterator[str]:
    """Compare placeholders and values."""
    assert call.text is not None
    if call.method in ("many", "query") or call.values is None or call.names is None:
        return
    count, names, stray = placeholders(call.text)
    if not call.values and not call.names:
        if count or names:
            yield f"has {count + len(names)} placeholders and is given no values"
        return
    if stray is not None:
        yield f"has {stray!r}: with values, a placeholder is %s or %(name)s and the character % is written %%"
    if call.values and call.values != count:
        yield f"has {count} placeholders (%s) and is given {call.values} values"
    if (missing := sorted(names - call.names)) and not call.values:
        yield f"has no value for %({')s, %('.join(missing)})s"


def _whole(call: Call) -> tuple[str | None, bool]:
    """Return the statement with a list of rows spelled out for `many`, and whether it has values."""
    assert call.text is not None
    if call.method != "many":
        count, names, _stray = placeholders(call.text)
        has_values = bool(count or names) if call.method == "query" else call.values != 0 or call.names != frozenset()
        return call.text, has_values
    head, _, rest = call.text.partition("%s")
    columns = head.rpartition(")")[0].rpartition("(")[2]
    if "(" not in head or "%s" in rest:
        return None, True
    return f"{head}({', '.join(['%s'] * (columns.count(',') + 1))}){rest}", True


def _catalog(session: Session, columns: Sequence[Column]) -> Catalog:
    rows = {row[0]: row for row in session.run(TYPES, [column.type for column in columns])}

    def kind_of(oid: int) -> PostgresType | None:
        if oid not in rows:
            return None
        _oid, name, kind, element, base, category, labels = rows[oid]
        if kind == "d":
            return kind_of(base)
        if category == "A":
            return PostgresType(name, element=kind_of(element) or PostgresType("?"))
        return PostgresType(name, tuple(labels))

    types: dict[int, Any] = {column.type: kind_of(column.type) for column in columns}
    nullable = session.run(NULLABLE, [column.table for column in columns if column.table])
    return Catalog({oid: kind for oid, kind in types.items() if kind is not None}, frozenset((table, number) for table, number in nullable))


def _place(call: Call, base: Path, position: int = 0) -> str:
    """Return file and line; of a position inside a statement of several lines, that line."""
    file = Path(call.file)
    shown = file.relative_to(base) if file.is_relative_to(base) else file
    line = call.line
    if position and call.text is not None and "\n" in call.text:
        line = call.text_line + line_of(call.text, position) - 1
    return f"{shown}:{line}"
