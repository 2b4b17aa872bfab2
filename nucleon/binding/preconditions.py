"""ETag and If-None-Match (RFC 9110 section 13) from a field named `version`; If-Match is `Request.expect_version`."""

from typing import Any

from nucleon.binding.kinds import fields_of, is_record, members
from nucleon.message import Request


def names_version(kind: Any) -> bool:
    """Does the type have a field named version?"""
    return any(is_record(member) and any(field.name == "version" for field in fields_of(member)) for member in members(kind))


def etags_from(text: str) -> set[str]:
    """Return the entity tags of a list, without their weakness."""
    return {part.strip().removeprefix("W/") for part in text.split(",")}


def is_not_modified(request: Request, etag: str) -> bool:
    """Does the client hold this version already (If-None-Match on GET and HEAD)?"""
    if request.method not in ("GET", "HEAD"):
        return False
    given = request.headers.get("if-none-match")
    return given is not None and (given.strip() == "*" or etag in etags_from(given))
