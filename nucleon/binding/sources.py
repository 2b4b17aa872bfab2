"""Where a parameter's value comes from, said in its annotation: `Header[str]`, `Cookie[str]`, `Query[list[int]]`, `Form[Login]`."""

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """A mark inside `Annotated` that names the place."""

    place: str


@dataclass(frozen=True, slots=True)
class Named:
    """Another name than the parameter's: `Annotated[Header[str], Named("X-Api-Key")]`."""

    name: str


Header = Annotated[T, Source("header")]
Cookie = Annotated[T, Source("cookie")]
Query = Annotated[T, Source("query")]
Form = Annotated[T, Source("form")]


def taken_apart(annotation: Any) -> tuple[Any, str | None, str | None]:
    """Return an annotation without our marks, the place and the name that they say (None: they do not)."""
    if get_origin(annotation) is not Annotated:
        return annotation, None, None
    kind, *marks = get_args(annotation)
    place = next((mark.place for mark in marks if isinstance(mark, Source)), None)
    name = next((mark.name for mark in marks if isinstance(mark, Named)), None)
    for mark in marks:
        if not isinstance(mark, Source | Named):
            kind = Annotated[kind, mark]
    return kind, place, name
