"""What travels between rooms: `Request` and `Response`, and the value types a handler names. Loop-free, WSGI-free."""

from nucleon.message.events import Event, Events
from nucleon.message.model import Len, Max, Min, Model, Pattern
from nucleon.message.page import Created, Page, PageQuery, cursor_from
from nucleon.message.patch import Patch, partial_from
from nucleon.message.request import Headers, Request
from nucleon.message.response import Response

__all__ = [
    "Created", "Event", "Events", "Headers", "Len", "Max", "Min", "Model", "Page", "PageQuery", "Patch", "Pattern",
    "Request", "Response", "cursor_from", "partial_from",
]  # fmt: skip
