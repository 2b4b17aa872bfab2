"""A TCP proxy that makes trouble on demand: between a driver and its server, or a client and ours."""

import socket as names
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import gevent
import gevent.event
import gevent.socket

from nucleon.green.sockets import Address, connect, listen

Direction = Literal["both", "to_server", "to_client"]
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on with zero seconds: close() sends RST


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """What happens to the bytes of one direction."""

    mode: Literal["pass", "blackhole", "delay", "cut", "reset"] = "pass"
    seconds: float = 0.0
    after_bytes: int = 0


class TcpProxy:
    """Listen on 127.0.0.1 and carry bytes to `upstream` ((host, port), or the path of a Unix socket).

    The rules may change at any time and hold for open connections too:

    * `pass_through()`: carry everything (the start).
    * `blackhole()`: carry nothing and close nothing; what was sent meanwhile arrives after `pass_through()`, as with TCP itself.
    * `delay(seconds)`: every piece waits that long first.
    * `cut(after_bytes)`: each connection carries so many bytes more, then both its sides are closed.
    * `reset()`: every connection, open or new, is ended by a TCP reset until `pass_through()`.

    direction: "to_server", "to_client" or "both". A context manager; the standard library must be patched (as in any test run of ours).
    """

    def __init__(self, upstream: Address) -> None:
        self.upstream = upstream
        self.accepted = 0
        self._rules = {"to_server": Rule(), "to_client": Rule()}
        self._changed = gevent.event.Event()
        self._links: set[_Link] = set()
        self._listener = listen(("127.0.0.1", 0))
        self.host, self.port = "127.0.0.1", int(self._listener.getsockname()[1])
        self._accepting = gevent.spawn(self._accept)

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        return (self.host, self.port)

    @property
    def open_connections(self) -> int:
        """How many connections the proxy carries now."""
        return len(self._links)

    def pass_through(self, direction: Direction = "both") -> None:
        """Carry everything again."""
        self._set(Rule(), direction)

    def blackhole(self, direction: Direction = "both") -> None:
        """Carry nothing; connections stay open and new ones are accepted."""
        self._set(Rule("blackhole"), direction)

    def delay(self, seconds: float, direction: Direction = "both") -> None:
        """Let every piece wait `seconds`."""
        self._set(Rule("delay", seconds=seconds), direction)

    def cut(self, after_bytes: int = 0, direction: Direction = "both") -> None:
        """Close each connection after `after_bytes` bytes from now in that direction."""
        self._set(Rule("cut", after_bytes=after_bytes), direction)

    def reset(self) -> None:
        """End every open connection with a TCP reset, and new ones as soon as they are accepted."""
        self._set(Rule("reset"), "both")
        self.drop()

    def drop(self) -> None:
        """End every open connection with a TCP reset, once; the rules stay."""
        for link in list(self._links):
            link.reset()

    def close(self) -> None:
        """Stop listening and close every connection. A second call does nothing."""
        self._accepting.kill()
        self._listener.close()
        for link in list(self._links):
            link.close()

    def __enter__(self) -> "TcpProxy":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        modes = ", ".join(f"{name} {rule.mode}" for name, rule in self._rules.items())
        return f"<TcpProxy {self.host}:{self.port} to {self.upstream}, {modes}, {len(self._links)} open>"

    def rule(self, direction: str) -> Rule:
        """Wait while `direction` is a black hole; return the rule that holds then."""
        while (rule := self._rules[direction]).mode == "blackhole":
            self._changed.wait()
        return rule

    def forget(self, link: "_Link") -> None:
        """Take a connection that has ended off the list."""
        self._links.discard(link)

    def _set(self, rule: Rule, direction: Direction) -> None:
        for name in self._rules if direction == "both" else (direction,):
            self._rules[name] = rule
        self._changed.set()
        self._changed.clear()

    def _accept(self) -> None:
        while True:
            client, _address = self._listener.accept()
            self.accepted += 1
            link = _Link(self, client)
            self._links.add(link)
            if self._rules["to_server"].mode == "reset":
                link.reset()
            else:
                link.start()


class _Link:
    """One client's connection and its partner upstream."""

    def __init__(self, proxy: TcpProxy, client: gevent.socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server: gevent.socket.socket | None = None
        self._greenlets: list[gevent.Greenlet[..., None]] = []
        self._ends_open = 2

    def start(self) -> None:
        self._greenlets.append(gevent.spawn(self._open))

    def _open(self) -> None:
        self.client.setsockopt(names.IPPROTO_TCP, names.TCP_NODELAY, 1)
        try:
            self.proxy.rule("to_server")
            self.server = connect(self.proxy.upstream, timeout_seconds=10)
        except OSError:
            self.reset()
            return
        self._greenlets.append(gevent.spawn(self._pump, self.client, self.server, "to_server"))
        self._greenlets.append(gevent.spawn(self._pump, self.server, self.client, "to_client"))

    def _pump(self, source: gevent.socket.socket, sink: gevent.socket.socket, direction: str) -> None:
        carried, before = 0, None
        try:
            while True:
                piece = source.recv(65536)
                rule = self.proxy.rule(direction)
                if rule is not before:
                    carried, before = 0, rule
                if rule.mode == "cut" and carried + len(piece) >= rule.after_bytes:
                    sink.sendall(piece[: rule.after_bytes - carried])
                    self.close()
                    return
                if rule.mode == "delay":
                    gevent.sleep(rule.seconds)
                if not piece:
                    break
                sink.sendall(piece)
                carried += len(piece)
            sink.shutdown(names.SHUT_WR)
        except OSError:
            self.reset()
            return
        self._ends_open -= 1
        if self._ends_open == 0:
            self.close()

    def reset(self) -> None:
        for end in (self.client, self.server):
            if end is not None and end.fileno() >= 0 and end.family != names.AF_UNIX:
                end.setsockopt(names.SOL_SOCKET, names.SO_LINGER, _RESET_ON_CLOSE)
        self.close()

    def close(self) -> None:
        self.proxy.forget(self)
        current = gevent.getcurrent()
        for greenlet in self._greenlets:
            if greenlet is not current:
                greenlet.kill(block=False)
        self.client.close()
        if self.server is not None:
            self.server.close()
