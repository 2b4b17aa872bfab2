"""What travels between rooms: `Request` and `Response`, and the value types a handler names. Loop-free, WSGI-free."""

from nucleon.message.request import Headers, Request
from nucleon.message.response import Response

__all__ = ["Headers", "Request", "Response"]
