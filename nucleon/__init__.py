"""nucleon: JSON web services in plain synchronous Python on greenlets."""

from nucleon.app import App, Limits
from nucleon.binding import Cookie, Form, Header, Named, Query
from nucleon.errors import (
    BadRequest,
    Conflict,
    ContentTooLarge,
    DeadlineExceeded,
    Forbidden,
    Invalid,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    NucleonError,
    PreconditionFailed,
    Problem,
    SetupError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from nucleon.message import Created, Event, Events, Len, Max, Min, Model, Page, PageQuery, Patch, Pattern, Request, Response
from nucleon.secret import Secret

__version__ = "0.1.0"

__all__ = [
    "App", "BadRequest", "Conflict", "ContentTooLarge", "Cookie", "Created", "DeadlineExceeded", "Event", "Events", "Forbidden", "Form",
    "Header", "Invalid", "Len", "Limits", "Max", "MethodNotAllowed", "Min", "Model", "Named", "NotAcceptable", "NotFound", "NucleonError",
    "Page", "PageQuery", "Patch", "Pattern", "PreconditionFailed", "Problem", "Query", "Request", "Response", "Secret", "SetupError",
    "TooManyRequests", "Unauthorized", "Unavailable", "UnsupportedMediaType",
]  # fmt: skip
