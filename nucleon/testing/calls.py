"""The verbs of a client, whatever carries the request."""

import json as json_text
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from nucleon.testing.answer import Answer


class Calls:
    """`get`, `post` and the others over one `send`; remembers cookies."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    def send(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """Carry one request. target: path and query string as on the wire. Subclasses say how."""
        raise AssertionError("a subclass carries the request")

    def send_within(self, max_queries: int, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """Carry one request that may make so many queries. Only a client in the process of the application can count them."""
        raise TypeError(f"max_queries={max_queries}: the queries of a server in another process cannot be counted, use Client(app)")

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = msgspec.UNSET,
        body: bytes | str = b"",
        max_queries: int | None = None,
    ) -> Answer:
        """Send a request and return its answer. json: anything msgspec can encode; body: bytes as they are, instead.

        max_queries: raise `AssertionError` with the list of its statements when the request makes more (a stream: when it was read).
        """
        fields = {name.lower(): value for name, value in (headers or {}).items()}
        content = body.encode() if isinstance(body, str) else body
        if json is not msgspec.UNSET:
            content = _encoded(json)
            fields.setdefault("content-type", "application/json")
        if query:
            path += ("&" if "?" in path else "?") + urlencode(query, doseq=True)
        if self.cookies:
            fields.setdefault("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        if content or method in ("POST", "PUT", "PATCH"):
            fields.setdefault("content-length", str(len(content)))
        if max_queries is None:
            answer = self.send(method, path, fields, content)
        else:
            answer = self.send_within(max_queries, method, path, fields, content)
        self._remember(answer)
        return answer

    def get(self, path: str, **options: Any) -> Answer:
        """Send a GET; options as for `request`."""
        return self.request("GET", path, **options)

    def head(self, path: str, **options: Any) -> Answer:
        """Send a HEAD; options as for `request`."""
        return self.request("HEAD", path, **options)

    def options(self, path: str, **options: Any) -> Answer:
        """Send an OPTIONS; options as for `request`."""
        return self.request("OPTIONS", path, **options)

    def post(self, path: str, **options: Any) -> Answer:
        """Send a POST; options as for `request`."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Answer:
        """Send a PUT; options as for `request`."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Answer:
        """Send a PATCH; options as for `request`."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Answer:
        """Send a DELETE; options as for `request`."""
        return self.request("DELETE", path, **options)

    def _remember(self, answer: Answer) -> None:
        for name, line in answer.header_list:
            if name.lower() != "set-cookie":
                continue
            pair, *attributes = line.split(";")
            key, _, value = pair.strip().partition("=")
            if not value or any(attribute.strip().lower() == "max-age=0" for attribute in attributes):
                self.cookies.pop(key, None)
            else:
                self.cookies[key] = value


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError):
        return json_text.dumps(value).encode()  # NaN and other faults that a test sends on purpose
