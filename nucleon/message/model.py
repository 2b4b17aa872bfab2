"""`Model`, and the constraints its fields may carry."""

import msgspec


class Model(msgspec.Struct, forbid_unknown_fields=True):
    """A typed value of the service's interface: a msgspec Struct that refuses unknown fields.

    A field named `version` gives answers an ETag and makes If-None-Match work (If-Match: `Request.expect_version`).
    """


def Len(at_least: int = 0, at_most: int | None = None) -> msgspec.Meta:
    """Bound the length of a str, bytes, list or dict: `Annotated[str, Len(1, 80)]`."""
    return msgspec.Meta(min_length=at_least, max_length=at_most)


def Min(value: float) -> msgspec.Meta:
    """Bound a number from below, itself included."""
    return msgspec.Meta(ge=value)


def Max(value: float) -> msgspec.Meta:
    """Bound a number from above, itself included."""
    return msgspec.Meta(le=value)


def Pattern(expression: str) -> msgspec.Meta:
    """Let a str match a regular expression somewhere (use ^ and $ for the whole)."""
    return msgspec.Meta(pattern=expression)
