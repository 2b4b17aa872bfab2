"""One row of one table from a `Model`, `Patch` or mapping: `insert`, `update`, `upsert`, `delete`. No mapper, no joins, no surprises.

`update` and `delete` change the one row that their key names, or nothing. `expected` is the version that the caller has seen (the request,
for its If-Match): when the row has another one by now, nothing is changed and `PreconditionFailed` (412) says so.
"""

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from nucleon.errors import PreconditionFailed
from nucleon.message import Request
from nucleon.postgres.adapters import Json
from nucleon.postgres.composing import Kept, Table, fill, joined, name, table_name
from nucleon.postgres.errors import NoRow, SeveralRows
from nucleon.postgres.rows import fields_of, holds_records, is_single, reader
from nucleon.postgres.statements import Statements

T = TypeVar("T")
Values = msgspec.Struct | Mapping[str, Any]
Expected = Request | int | str | None

VERSION = "version"


class Tables(Statements):
    """The part of `Postgres` that writes one row. Tables are named by `"items"`, `"shop.items"` or a `sql.Identifier`."""

    def insert(self, kind: type[T], table: Table, values: Values | None = None, /, **columns: Any) -> T:
        """Insert a row and return it as `kind`: `db.insert(Item, "items", body, owner=user.id)`.

        Raises `AlreadyExists`, `StillReferenced`, `ConstraintFailed`.
        """
        given = columns_from(kind, values, columns)
        result = self._run(_insert_text(_key_of(table), tuple(given)), list(given.values()))
        row: T = reader(kind, result.columns).one(result.rows[0])
        return row

    def upsert(self, kind: type[T], table: Table, values: Values | None = None, /, *, key: str | tuple[str, ...], **columns: Any) -> T:
        """Insert a row, or change the one that has the same `key` columns (they need a unique index); return it as `kind`."""
        given = columns_from(kind, values, columns)
        keys = (key,) if isinstance(key, str) else tuple(key)
        result = self._run(_upsert_text(_key_of(table), tuple(given), keys, _has_version(kind)), list(given.values()))
        row: T = reader(kind, result.columns).one(result.rows[0])
        return row

    def update(self, kind: type[T], table: Table, changes: Values, /, *, expected: Expected = None, **key: Any) -> T:
        """Change the row that `key` names and return it as `kind`: `db.update(Item, "items", patch, id=id, expected=request)`.

        A `version` column that `kind` has is counted up. Nothing to change: the row as it is. Raises `NoRow` (404),
        `PreconditionFailed` (412), `SeveralRows` (and changes none).
        """
        given = columns_from(kind, changes, {})
        versions = _versions(expected)
        text = _update_text(_key_of(table), tuple(given), tuple(_named(key)), _has_version(kind), versions is not None)
        result = self._run(text, [*given.values(), *_conditions(key, versions)])
        if not result.rows:
            raise self._why_nothing(table, key, versions)
        row: T = reader(kind, result.columns).one(result.rows[0])
        return row

    def delete(self, table: Table, /, *, expected: Expected = None, **key: Any) -> None:
        """Delete the row that `key` names. Raises `NoRow` (404), `PreconditionFailed` (412), `SeveralRows` (and deletes none)."""
        versions = _versions(expected)
        text = _delete_text(_key_of(table), tuple(_named(key)), versions is not None)
        if self._run(text, _conditions(key, versions)).touched == 0:
            raise self._why_nothing(table, key, versions)

    def _why_nothing(self, table: Table, key: Mapping[str, Any], versions: list[str] | None) -> Exception:
        found = self._run(_look_text(_key_of(table), tuple(key), versions is not None), list(key.values())).rows
        if len(found) > 1:
            return SeveralRows(f"the key ({', '.join(key)}) names more than one row: nothing was changed")
        if not found or versions is None:
            return NoRow("no such row")
        return PreconditionFailed("it has changed since you read it", headers={"ETag": f'"{found[0][0]}"'})


def columns_from(kind: Any, values: Values | None, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return column names and parameters of a model, `Patch` or mapping, and of single columns beside it.

    kind: what the row is read as; its fields tell which columns are JSON, the model's own do too. Fields that are `UNSET` are left out.
    """
    json_columns = _json_columns_of(kind)
    given: dict[str, Any] = {}
    if isinstance(values, msgspec.Struct):
        for column, is_json in _columns_of(type(values)):
            value = getattr(values, column)
            if value is not msgspec.UNSET:
                given[column] = parameter_from(value, is_json or column in json_columns)
    elif values is not None:
        given.update({column: parameter_from(value, column in json_columns) for column, value in values.items()})
    given.update({column: parameter_from(value, column in json_columns) for column, value in columns.items()})
    return given


@lru_cache(maxsize=1024)
def _columns_of(model: type[msgspec.Struct]) -> list[tuple[str, bool]]:
    """Return the column of each field of a model, and whether it is written as JSON; looking them up costs more than the insert."""
    return [(field.name, holds_records(field.type)) for field in msgspec.structs.fields(model)]


@lru_cache(maxsize=1024)
def _json_columns_of(kind: Any) -> frozenset[str]:
    if kind in (dict, tuple) or is_single(kind):
        return frozenset()
    return frozenset(field.name for field in fields_of(kind) if holds_records(field.kind))


def parameter_from(value: Any, is_json: bool) -> Any:
    """Return what psycopg2 can pass: JSON for a JSON column, for records and for lists of them, a list for a set."""
    if is_json and value is not None and not isinstance(value, Json):
        return Json(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, list) and value and isinstance(value[0], (msgspec.Struct, dict)):
        return Json(value)
    return Json(value) if dataclasses.is_dataclass(value) else value


def _key_of(table: Table) -> tuple[str, ...]:
    return (table,) if isinstance(table, str) else table.strings


def _named(key: Mapping[str, Any]) -> Mapping[str, Any]:
    if not key:
        raise TypeError("which row? name its key columns: id=...")
    return key


def _has_version(kind: Any) -> bool:
    return any(VERSION in vars(base).get("__annotations__", ()) for base in kind.__mro__)


def _versions(expected: Expected) -> list[str] | None:
    if isinstance(expected, Request):
        return expected.expected_versions()
    return None if expected is None else [str(expected)]


def _conditions(key: Mapping[str, Any], versions: list[str] | None) -> list[Any]:
    """Return the parameters of `_one_row`: the key twice, then the versions."""
    return [*key.values(), *key.values(), *([] if versions is None else [versions])]


def _table(key: tuple[str, ...]) -> Any:
    from psycopg2 import sql

    return table_name(key[0] if len(key) == 1 else sql.Identifier(*key))


def _equals(columns: tuple[str, ...], separator: str) -> Any:
    return joined(separator, [fill("{column} = %s", column=name(column)) for column in columns])


def _one_row(table: tuple[str, ...], key: tuple[str, ...], has_expected: bool) -> Any:
    template = "{match} and (select count(*) from (select from {table} where {match} limit 2) as named) = 1"
    if has_expected:
        template += " and {version}::text = any(%s)"
    return fill(template, match=_equals(key, " and "), table=_table(table), version=name(VERSION))


@lru_cache(maxsize=1024)
def _insert_text(table: tuple[str, ...], columns: tuple[str, ...]) -> Kept:
    if not columns:
        return Kept(fill("insert into {table} default values returning *", table=_table(table)))
    return Kept(fill("insert into {table} ({columns}) values ({values}) returning *", **_parts(table, columns)))


def _parts(table: tuple[str, ...], columns: tuple[str, ...]) -> dict[str, Any]:
    return {
        "table": _table(table),
        "columns": joined(", ", map(name, columns)),
        "values": joined(", ", [fill("%s") for _ in columns]),
    }


@lru_cache(maxsize=1024)
def _upsert_text(table: tuple[str, ...], columns: tuple[str, ...], key: tuple[str, ...], has_version: bool) -> Kept:
    changed = [column for column in columns if column not in key and not (has_version and column == VERSION)] or list(key[:1])
    changes = [fill("{column} = excluded.{column}", column=name(column)) for column in changed]
    if has_version:
        changes.append(fill("{version} = mine.{version} + 1", version=name(VERSION)))
    return Kept(
        fill(
            "insert into {table} as mine ({columns}) values ({values}) on conflict ({key}) do update set {changes} returning *",
            **_parts(table, columns),
            key=joined(", ", map(name, key)),
            changes=joined(", ", changes),
        )
    )


@lru_cache(maxsize=1024)
def _update_text(table: tuple[str, ...], columns: tuple[str, ...], key: tuple[str, ...], has_version: bool, has_expected: bool) -> Kept:
    where = _one_row(table, key, has_expected)
    if not columns:
        return Kept(fill("select * from {table} where {where}", table=_table(table), where=where))
    changes = [_equals((column,), "") for column in columns]
    if (has_version or has_expected) and VERSION not in columns:
        changes.append(fill("{version} = {version} + 1", version=name(VERSION)))
    changed = joined(", ", changes)
    return Kept(fill("update {table} set {changes} where {where} returning *", table=_table(table), changes=changed, where=where))


@lru_cache(maxsize=1024)
def _delete_text(table: tuple[str, ...], key: tuple[str, ...], has_expected: bool) -> Kept:
    return Kept(fill("delete from {table} where {where}", table=_table(table), where=_one_row(table, key, has_expected)))


@lru_cache(maxsize=1024)
def _look_text(table: tuple[str, ...], key: tuple[str, ...], has_expected: bool) -> Kept:
    shown = name(VERSION) if has_expected else fill("1")
    return Kept(fill("select {shown} from {table} where {match} limit 2", shown=shown, table=_table(table), match=_equals(key, " and ")))
