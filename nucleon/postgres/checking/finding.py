"""Find the statements that a module gives to a `Postgres`, by reading its source and the names it has defined."""

import ast
import builtins
import inspect
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, get_args, get_origin

import msgspec

from nucleon.message import Patch
from nucleon.postgres.client import Postgres

KIND_FIRST = {"one": 1, "maybe_one": 1, "all": 1, "stream": 1, "page": 2, "insert": 1, "upsert": 1, "update": 1}
"""Methods that begin with the type of their rows, and where their statement stands, or their table."""
KIND_MAYBE = ("value", "values")
NO_KIND = ("execute", "many", "query", "delete")
METHODS = (*KIND_FIRST, *KIND_MAYBE, *NO_KIND)
ON_TABLES = ("insert", "upsert", "update", "delete")
OPTIONS = {
    "stream": {"batch_rows"}, "many": {"page_size", "rows"}, "page": {"order"}, "query": {"kind"}, "upsert": {"key"},
    "update": {"expected"}, "delete": {"expected"},
}  # fmt: skip
COLUMN = re.compile(r"\w+")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
VERBS = ("select", "insert", "update", "delete", "with", "merge", "values")

TYPES = (type, types.GenericAlias, types.UnionType)

UNKNOWN = object()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a method that takes a statement.

    text: the statement, None when it cannot be seen (`reason`). kind: what its rows are read as, `UNKNOWN` when that cannot be seen, None
    when there is none. values: how many positional values follow, None when starred; names: of named values, None when starred.
    columns: what the table or the statement must have besides.
    """

    file: str
    line: int
    resource: Postgres | None
    method: str
    text: str | None
    text_line: int
    kind: Any
    values: int | None
    names: frozenset[str] | None
    reason: str = ""
    columns: frozenset[str] = frozenset()


class Unseen(Exception):
    """The value of an expression cannot be known from the source; the text says why."""


class Scope:
    """The names of a function: parameters with their annotations, and what is assigned, each with its expressions."""

    def __init__(self, function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None, outer: "Scope | None") -> None:
        self.outer = outer
        self.parameters: dict[str, ast.expr | None] = {}
        self.assigned: dict[str, list[ast.expr | None]] = {}
        if function is None:
            return
        given = function.args
        for one in [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, [given.vararg, given.kwarg])]:
            self.parameters[one.arg] = one.annotation
        for node in _own_nodes(function):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                self.assigned.setdefault(node.targets[0].id, []).append(node.value)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.assigned.setdefault(node.id, []).append(None)


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Walk a function without the functions inside it; a plain assignment comes without its target."""
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            waiting.append(node.value)
        elif not isinstance(node, FUNCTIONS):
            waiting.extend(ast.iter_child_nodes(node))


class Reader:
    """Reads one module. resources: the databases of the application, for parameters that are injected by type."""

    def __init__(self, module: ModuleType, resources: Mapping[str, Postgres]) -> None:
        self.names: Mapping[str, Any] = vars(module)
        self.file = str(module.__file__)
        self.resources = resources

    def calls(self, source: str) -> Iterator[Call]:
        """Give each call of a method that takes a statement, in the order of the source."""
        yield from sorted(self._in(ast.parse(source), Scope(None, None)), key=lambda call: call.line)

    def _in(self, node: ast.AST, scope: Scope) -> Iterator[Call]:
        for child in ast.iter_child_nodes(node):
            inner = Scope(child, scope) if isinstance(child, FUNCTIONS) else scope
            if isinstance(child, ast.Call) and (found := self._call(child, scope)) is not None:
                yield found
            yield from self._in(child, inner)

    def _call(self, node: ast.Call, scope: Scope) -> Call | None:
        if not isinstance(node.func, ast.Attribute) or node.func.attr not in METHODS:
            return None
        method = node.func.attr
        unseen = Call(self.file, node.lineno, None, method, None, node.lineno, UNKNOWN, None, None)
        try:
            resource = self._value(node.func.value, scope)
        except Unseen:
            looks_like = any(_is_sql(one) for one in node.args[:2])
            shown = ast.unparse(node.func.value)
            return replace(unseen, reason=f"which database {shown} is cannot be seen") if looks_like else None
        if not isinstance(resource, Postgres):
            return None
        return self._with_statement(replace(unseen, resource=resource), node, scope)

    def _with_statement(self, call: Call, node: ast.Call, scope: Scope) -> Call:
        at = self._place_of_statement(call.method, node, scope)
        if len(node.args) <= at or any(isinstance(one, ast.Starred) for one in node.args[: at + 1]):
            return replace(call, reason="its statement is not a positional argument")
        text = node.args[at]
        try:
            statement = self._value(text, scope)
        except Unseen as why:
            return replace(call, reason=str(why))
        if not isinstance(statement, str):
            return replace(call, reason=f"its statement is built at run time ({type(statement).__name__})")
        rest = node.args[at + 1 :]
        options = OPTIONS.get(call.method, set())
        is_starred = any(isinstance(one, ast.Starred) for one in rest)
        names = None if any(one.arg is None for one in node.keywords) else {str(one.arg) for one in node.keywords} - options
        found = replace(
            call, text=statement, text_line=text.lineno, kind=self._kind(node.args[0], scope) if at else None,
            values=None if is_starred else len(rest), names=None if names is None else frozenset(names),
        )  # fmt: skip
        return self._of_method(found, {str(one.arg): one.value for one in node.keywords}, rest, scope)

    def _of_method(self, call: Call, keywords: Mapping[str, ast.expr], rest: list[ast.expr], scope: Scope) -> Call:
        """Add what is particular to a method: the columns of `page`, the type of `query`, the table of those that write one row."""
        if call.method == "page" and "order" in keywords:
            order = self._kind(keywords["order"], scope)
            return replace(call, columns=frozenset(COLUMN.findall(order))) if isinstance(order, str) else call
        if call.method == "query":
            kind = keywords.get("kind", rest[0] if rest else None)
            return replace(call, kind=dict if kind is None else self._kind(kind, scope), values=None, names=None)
        if call.method in ON_TABLES:
            table = ".".join(f'"{part}"' for part in str(call.text).split("."))
            written = self._written(rest[0], scope) if rest and call.method != "delete" else frozenset()
            columns = (call.names or frozenset()) | written
            return replace(call, text=f"select * from {table}", columns=columns, values=0, names=frozenset())
        return call

    def _written(self, node: ast.expr, scope: Scope) -> frozenset[str]:
        """Return the columns that a dict display, or a parameter annotated with a model or its `Patch`, surely may write; else none."""
        if isinstance(node, ast.Dict):
            return frozenset(str(key.value) for key in node.keys if isinstance(key, ast.Constant))
        looking: Scope | None = scope
        while isinstance(node, ast.Name) and looking is not None and node.id not in looking.assigned:
            if (annotation := looking.parameters.get(node.id)) is not None:
                return _columns_of(self._kind(annotation, Scope(None, None)))
            looking = None if node.id in looking.parameters else looking.outer
        return frozenset()

    def _place_of_statement(self, method: str, node: ast.Call, scope: Scope) -> int:
        if method in KIND_FIRST:
            return KIND_FIRST[method]
        if method in NO_KIND or not node.args:
            return 0
        try:
            return 0 if isinstance(self._value(node.args[0], scope), str) else 1
        except Unseen:
            return 0 if len(node.args) == 1 or not _is_sql(node.args[1]) else 1

    def _kind(self, node: ast.expr, scope: Scope) -> Any:
        try:
            return self._value(node, scope)
        except Unseen:
            return UNKNOWN

    def _value(self, node: ast.expr, scope: Scope) -> Any:
        """Return what an expression is. Raises `Unseen`."""
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return self._named(node.id, scope)
            case ast.Attribute():
                return _attribute(self._value(node.value, scope), node.attr)
            case ast.JoinedStr():
                return "".join([self._piece(one, scope) for one in node.values])
            case ast.BinOp(op=ast.Add() | ast.BitOr()):
                return self._joined(node, scope)
            case ast.Subscript():
                return _item(self._value(node.value, scope), self._value(node.slice, scope), node)
            case ast.Tuple():
                return tuple(self._value(one, scope) for one in node.elts)
        raise Unseen(f"built at run time: {ast.unparse(node)[:60]}")

    def _joined(self, node: ast.BinOp, scope: Scope) -> Any:
        left, right = self._value(node.left, scope), self._value(node.right, scope)
        if isinstance(node.op, ast.Add) and isinstance(left, str) and isinstance(right, str):
            return left + right
        if isinstance(node.op, ast.BitOr) and all(one is None or isinstance(one, TYPES) for one in (left, right)):
            return left | right
        raise Unseen(f"built at run time: {ast.unparse(node)[:60]}")

    def _piece(self, node: ast.expr, scope: Scope) -> str:
        if isinstance(node, ast.FormattedValue):
            try:
                value = self._value(node.value, scope)
            except Unseen:
                raise Unseen(f"an f-string with {ast.unparse(node.value)[:40]}") from None
            if not isinstance(value, str) or node.conversion != -1 or node.format_spec is not None:
                raise Unseen(f"an f-string with {ast.unparse(node.value)[:40]}")
            return value
        return str(self._value(node, scope))

    def _named(self, name: str, scope: Scope) -> Any:
        looking: Scope | None = scope
        while looking is not None:
            if name in looking.assigned:
                (value, *more) = looking.assigned[name]
                if more or value is None or name in looking.parameters:
                    raise Unseen(f"{name} has several values")
                return self._value(value, looking)
            if name in looking.parameters:
                return self._injected(name, looking.parameters[name])
            looking = looking.outer
        if name in self.names:
            return self.names[name]
        if hasattr(builtins, name):
            return getattr(builtins, name)
        raise Unseen(f"{name} is not defined")

    def _injected(self, name: str, annotation: ast.expr | None) -> Any:
        """Return the database that a parameter of type `Postgres` stands for."""
        kind = None
        if annotation is not None:
            try:
                kind = self._value(annotation, Scope(None, None))
            except Unseen:
                kind = None
        if isinstance(kind, type) and issubclass(kind, Postgres):
            fitting = [one for key, one in self.resources.items() if key == name] or list(self.resources.values())
            if len(fitting) == 1:
                return fitting[0]
        raise Unseen(f"{name} is a parameter")


def _columns_of(kind: Any) -> frozenset[str]:
    """Return the columns that a value of a model, or of `Patch` of one, may name."""
    model = get_args(kind)[0] if get_origin(kind) is Patch else kind
    if not (isinstance(model, type) and issubclass(model, msgspec.Struct)):
        return frozenset()
    return frozenset(field.name for field in msgspec.structs.fields(model))


def _item(thing: Any, key: Any, node: ast.Subscript) -> Any:
    """Return `list[int]`, or an item of a plain container; nothing else, for `[]` of the user's types may do anything."""
    if isinstance(thing, TYPES) or getattr(thing, "__module__", "") == "typing" or type(thing) in (dict, list, tuple, str):
        try:
            return thing[key]
        except (LookupError, TypeError):
            raise Unseen(f"{ast.unparse(node)[:60]} cannot be seen") from None
    raise Unseen(f"built at run time: {ast.unparse(node)[:60]}")


def _attribute(thing: Any, name: str) -> Any:
    if isinstance(thing, (ModuleType, type)):
        value = getattr(thing, name, UNKNOWN)
    else:
        value = inspect.getattr_static(thing, name, UNKNOWN)  # never a property of the user's: looking must not do anything
    if value is UNKNOWN:
        raise Unseen(f"{name} cannot be seen")
    return value


def _is_sql(node: ast.expr) -> bool:
    first = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
    return isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value.lstrip("( \n").lower().startswith(VERBS)
