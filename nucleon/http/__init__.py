"""Sans-IO HTTP/1.1, server role: bytes to request heads and bodies, responses to bytes. No socket, no gevent."""

from nucleon.http import head as _head
from nucleon.http.chunks import ChunkedDecoder
from nucleon.http.head import RequestHead, head_end, parse_head, skip_empty_line
from nucleon.http.malformed import Limits, MalformedInput
from nucleon.http.reply import CHUNKED, UNTIL_CLOSE, Reply, compose, is_bodiless, reply_head

COMPILED: bool = not str(_head.__file__).endswith(".py")
"""Whether the hot modules were compiled when nucleon was installed."""

__all__ = [
    "CHUNKED", "COMPILED", "UNTIL_CLOSE", "ChunkedDecoder", "Limits", "MalformedInput", "Reply", "RequestHead",
    "compose", "head_end", "is_bodiless", "parse_head", "reply_head", "skip_empty_line",
]  # fmt: skip
