"""The pattern of a route: static segments, `{name}` for one segment, `{name:path}` for all the rest."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

PARAMETER = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)(:path)?\}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A segment that varies; `is_rest`: it takes the rest of the path, slashes included."""

    name: str
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern."""

    text: str
    segments: tuple[str | Parameter, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters, in order."""
        return tuple(segment.name for segment in self.segments if isinstance(segment, Parameter))

    @property
    def shape(self) -> tuple[str, ...]:
        """The pattern without its parameters' names: patterns of the same shape match the same paths."""
        return tuple(segment if isinstance(segment, str) else ("{:path}" if segment.is_rest else "{}") for segment in self.segments)

    def path_for(self, values: Mapping[str, object]) -> str:
        """Return the path, percent-encoded, that this pattern matches with these values."""
        parts = []
        for segment in self.segments:
            if isinstance(segment, str):
                parts.append(quote(segment))
            else:
                parts.append(quote(str(values[segment.name]), safe="/" if segment.is_rest else ""))
        return "/" + "/".join(parts)


def pattern_from(text: str) -> Pattern:
    """Parse a pattern; ValueError says what is wrong with it."""
    if not text.startswith("/"):
        raise ValueError(f"the path {text!r} does not begin with a slash")
    segments: list[str | Parameter] = []
    for part in text[1:].split("/"):
        match = PARAMETER.fullmatch(part)
        if match is not None:
            segments.append(Parameter(match[1], match[2] is not None))
        elif "{" in part or "}" in part:
            raise ValueError(f"the segment {part!r} of {text!r} is neither static, {{name}}, nor {{name:path}}")
        else:
            segments.append(part)
    pattern = Pattern(text, tuple(segments))
    if len(set(pattern.parameters)) != len(pattern.parameters):
        raise ValueError(f"the path {text!r} names a parameter twice")
    if any(isinstance(segment, Parameter) and segment.is_rest for segment in segments[:-1]):
        raise ValueError(f"in {text!r} a {{name:path}} is not the last segment")
    return pattern
