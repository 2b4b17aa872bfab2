"""Names of keys and channels made from patterns such as `"item:{id}"`."""

from collections.abc import Mapping
from string import Formatter

from nucleon.errors import SetupError

ESCAPED = str.maketrans({"%": "%25", ":": "%3A", "{": "%7B", "}": "%7D"})
"""":" would let different values share a name; "{" and "}" would choose another slot of a cluster."""


class KeyPattern:
    """A pattern whose fields are filled by keyword; different values never give the same name."""

    __slots__ = ("fields", "text")

    def __init__(self, text: str, what: str) -> None:
        """what: for the error, such as "cache". Raises `SetupError` when a field is no plain name."""
        self.text = text
        try:
            self.fields = frozenset(name for _, name, _, _ in Formatter().parse(text) if name is not None)
        except (TypeError, ValueError) as error:
            raise SetupError(f"{what} {text!r}: it is no pattern such as 'item:{{id}}': {error}") from None
        if not all(name.isidentifier() for name in self.fields):
            raise SetupError(f"{what} {text!r}: its fields must be plain names, such as 'item:{{id}}'")

    def filled(self, values: Mapping[str, object]) -> str:
        """Return the name. Raises TypeError when the fields are not these."""
        if values.keys() != self.fields:
            raise TypeError(f"{self.text!r} takes {sorted(self.fields)}, not {sorted(values)}")
        return self.text.format_map({name: escaped(value) for name, value in values.items()})


def escaped(value: object) -> str:
    """Return a value as a part of a name. Raises TypeError for an object that has no text of its own."""
    text = str(value)
    if text.isalnum():
        return text
    if " at 0x" in text and not isinstance(value, str):  # a place in memory, where another object may be next
        raise TypeError(f"a {type(value).__name__} has no text of its own for a name: give its id, or what tells it from others")
    return text.translate(ESCAPED)
