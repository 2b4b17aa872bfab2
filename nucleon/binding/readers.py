"""Readers: made at start-up for one parameter each; given a call they return its value or raise `Faulty`."""

from collections.abc import Callable
from typing import Any, TypeAlias, get_args, get_origin

import msgspec

from nucleon.binding.call import Call
from nucleon.binding.faults import Faulty, fault_from, faults_of, non_finite
from nucleon.binding.kinds import fields_of, is_list, is_open, is_record, may_hold_non_finite, members, plain
from nucleon.binding.scanning import ABSENT, UNSURE, number_in, value_end, value_start
from nucleon.errors import BadRequest, UnsupportedMediaType
from nucleon.message import Patch, partial_from

Reader: TypeAlias = Callable[[Call], Any]
MISSING: Any = object()
MAXIMUM_DEPTH = 100  # of the JSON of a type that may be nested without end


def text_converter(kind: Any, place: str, name: str) -> Callable[[Any], Any]:
    """Return a function from text (or a list of texts) to a value of the type."""
    pointer = f"/{name}"
    if kind is str:
        return lambda value: value
    checks_finite = may_hold_non_finite(kind)

    def convert(value: Any) -> Any:
        try:
            result = msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError as error:
            raise Faulty(place, [fault_from(error, pointer)]) from None
        if checks_finite and any(True for _ in non_finite(result)):
            raise Faulty(place, [(pointer, "Expected a finite number")])
        return result

    if kind is not int:
        return convert

    def convert_digits(value: str) -> Any:  # most parameters: digits need no general converter
        number = number_in(value, 0, len(value))
        return number if number >= 0 else convert(value)

    return convert_digits


class Scalar:
    """Reads one value of the path or of the query, as most parameters are: a query is not taken apart for it.

    otherwise: reads a query that has to be taken apart, and says what is wrong with it.
    """

    __slots__ = ("convert", "default", "is_int", "is_path", "is_required", "is_str", "name", "otherwise")

    def __init__(self, place: str, name: str, kind: Any, default: Any, otherwise: Reader | None = None) -> None:
        self.name = name
        self.default = default
        self.is_path = place == "path"
        self.is_required = default is MISSING
        self.is_int = kind is int
        self.is_str = kind is str
        self.convert = text_converter(kind, place, name)
        self.otherwise: Any = otherwise

    def __call__(self, call: Call) -> Any:
        return self.read(call)

    def read(self, call: Call) -> Any:
        """Return the value. Raises `Faulty`."""
        if self.is_path:
            text = call.request.params[self.name]
            return self._value(text, 0, len(text))
        text = call.request.query_string
        start = value_start(text, self.name) if text else ABSENT
        if start == UNSURE or (start == ABSENT and self.is_required):
            return self.otherwise(call)
        if start == ABSENT:
            return self.default
        return self._value(text, start, value_end(text, start))

    def _value(self, text: str, start: int, end: int) -> Any:
        if self.is_int:
            number = number_in(text, start, end)
            if number >= 0:
                return number
        given = text[start:end]
        return given if self.is_str else self.convert(given)


def path_reader(name: str, kind: Any) -> Reader:
    """Read a path parameter."""
    return Scalar("path", name, kind, MISSING)


def query_reader(name: str, kind: Any, default: Any) -> Reader:
    """Read a field of the query: as `fields_reader`, and sooner when it is one plain value."""
    read = fields_reader("query", name, kind, default)
    return read if any(is_list(member) for member in members(kind)) else Scalar("query", name, kind, default, read)


def fields_reader(place: str, name: str, kind: Any, default: Any) -> Reader:
    """Read a field of the query or of a form; a list takes every value, anything else refuses a second one."""
    convert = text_converter(kind, place, name)
    takes_many = any(is_list(member) for member in members(kind))
    pointer = f"/{name}"
    source: Callable[[Call], dict[str, list[str]]] = Call.query if place == "query" else _form

    def read(call: Call) -> Any:
        values = source(call).get(name)
        if values is None:
            if default is MISSING:
                raise Faulty(place, [(pointer, "Missing")])
            return default
        if takes_many:
            return convert(values)
        if len(values) > 1:
            raise Faulty(place, [(pointer, "Given more than once")])
        return convert(values[0])

    return read


def record_reader(place: str, kind: Any, default: Any) -> Reader:
    """Read a record from the query (its own fields; others may belong to other parameters) or from a form (all fields)."""
    fields = fields_of(kind)
    many = {field.encode_name: any(is_list(member) for member in members(field.kind)) for field in fields}
    source: Callable[[Call], dict[str, list[str]]] = Call.query if place == "query" else _form
    checks_finite = may_hold_non_finite(kind)

    def read(call: Call) -> Any:
        given = source(call)
        if default is not MISSING and not any(name in given for name in many):
            return default
        values: dict[str, Any] = {}
        for name, texts in given.items():
            if name in many:
                values[name] = texts if many[name] or len(texts) > 1 else texts[0]
            elif place == "form":
                values[name] = texts
        try:
            result = msgspec.convert(values, kind, strict=False)
        except msgspec.ValidationError as error:
            raise Faulty(place, faults_of(values, kind, strict=False) or [fault_from(error)]) from None
        if checks_finite:
            wrong = [(pointer, "Expected a finite number") for pointer in non_finite(result)]
            if wrong:
                raise Faulty(place, wrong)
        return result

    return read


def header_reader(name: str, kind: Any, default: Any) -> Reader:
    """Read a header field; a list takes the comma-separated members (RFC 9110 section 5.6.1)."""
    convert = text_converter(kind, "header", name)
    takes_many = any(is_list(member) for member in members(kind))
    key = name.lower()

    def read(call: Call) -> Any:
        value = call.request.fields.get(key)
        if value is None:
            if default is MISSING:
                raise Faulty("header", [(f"/{name}", "Missing")])
            return default
        return convert([part.strip() for part in value.split(",") if part.strip()] if takes_many else value)

    return read


def cookie_reader(name: str, kind: Any, default: Any) -> Reader:
    """Read a cookie."""
    convert = text_converter(kind, "cookie", name)

    def read(call: Call) -> Any:
        value = call.cookies().get(name)
        if value is None:
            if default is MISSING:
                raise Faulty("cookie", [(f"/{name}", "Missing")])
            return default
        return convert(value)

    return read


def bytes_reader(call: Call) -> bytes:
    """Read the body as it is."""
    return call.request.body(call.limit_bytes)


def body_reader(kind: Any, default: Any) -> Reader:
    """Read a JSON body; all its faults at once."""
    patched = plain(get_args(plain(kind))[0]) if get_origin(plain(kind)) is Patch else None
    decoded: Any = partial_from(patched) if patched is not None else kind
    decode = msgspec.json.Decoder(decoded).decode
    checks_finite, checks_depth = may_hold_non_finite(decoded), is_open(decoded)

    def read(call: Call) -> Any:
        content_type = call.request.fields.get("content-type")
        if content_type is None or content_type != "application/json":
            if content_type is None and not (data := call.request.body(call.limit_bytes)):
                if default is not MISSING:
                    return default
                raise BadRequest("a JSON body is needed, and the request has none")
            _require_json(content_type)
        data = call.request.body(call.limit_bytes)
        if checks_depth and data.count(b"[") + data.count(b"{") > MAXIMUM_DEPTH:
            _check_depth(data)
        try:
            value = decode(data)
        except msgspec.ValidationError as error:
            raise Faulty("body", _faults_of_json(data, decoded, error)) from None
        except (ValueError, RecursionError) as error:  # msgspec.DecodeError and UnicodeDecodeError are ValueErrors
            raise BadRequest(_why_no_json(data, error)) from None
        if checks_finite and (b"NaN" in data or b"nan" in data or b"nf" in data):
            wrong = [(pointer, "Expected a finite number") for pointer in non_finite(value)]
            if wrong:
                raise Faulty("body", wrong)
        return value if patched is None else Patch(changes_in(value))

    return read


def changes_in(partial: Any) -> dict[str, Any]:
    """Return the fields that are set."""
    return {name: value for name in partial.__struct_fields__ if (value := getattr(partial, name)) is not msgspec.UNSET}


def require_form(call: Call) -> None:
    """Raise `UnsupportedMediaType` unless the body says it is an urlencoded form."""
    media = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType(f"a form (application/x-www-form-urlencoded) is needed, not {media or 'an unnamed type'}")


def _form(call: Call) -> dict[str, list[str]]:
    require_form(call)
    return call.form()


def _why_no_json(data: bytes, error: Exception) -> str:
    if not data:
        return "a JSON body is needed, and the request has none"
    return "the body is not UTF-8 (RFC 8259 section 8.1)" if isinstance(error, UnicodeDecodeError) else f"the body is not JSON: {error}"


def _require_json(content_type: str | None) -> None:
    media, _, parameters = (content_type or "").lower().partition(";")
    media = media.strip()
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "')
    if not (media == "application/json" or (media.startswith("application/") and media.endswith("+json"))):
        shown = media or "of an unnamed type"
        raise UnsupportedMediaType(f"the body must be application/json, not {shown}", headers={"Accept": "application/json"})
    if charset not in ("", "utf-8", "utf8"):
        raise UnsupportedMediaType(f"JSON is UTF-8 (RFC 8259 section 8.1), not {charset}")


def _faults_of_json(data: bytes, kind: Any, error: msgspec.ValidationError) -> list[tuple[str, str]]:
    try:
        raw = msgspec.json.decode(data)
    except (ValueError, RecursionError) as broken:
        raise BadRequest(_why_no_json(data, broken)) from None
    return faults_of(raw, kind) or [fault_from(error)]


def _check_depth(data: bytes) -> None:
    """Raise `BadRequest` when arrays and objects are nested too deep."""
    depth, is_text, is_escaped = 0, False, False
    for byte in data:
        if is_text:
            if is_escaped:
                is_escaped = False
            elif byte == 0x5C:
                is_escaped = True
            elif byte == 0x22:
                is_text = False
        elif byte == 0x22:
            is_text = True
        elif byte in b"[{":
            depth += 1
            if depth > MAXIMUM_DEPTH:
                raise BadRequest(f"the JSON is nested deeper than {MAXIMUM_DEPTH}")
        elif byte in b"]}":
            depth -= 1


def is_record_of_fields(kind: Any) -> bool:
    """Is it a record, so that a query or a form gives its fields one by one?"""
    return any(is_record(member) for member in members(kind))
