"""Listening sockets of the master: plain sockets, bound before the first worker is forked."""

import os
import socket
import stat
from typing import Any

from nucleon.errors import SetupError


def bound(binds: tuple[str, ...], backlog: int) -> list[socket.socket]:
    """Listen on each address. Raises `SetupError` that names the first that cannot be had; none stays open then."""
    sockets: list[socket.socket] = []
    try:
        for bind in binds:
            sockets.append(_listening(bind, backlog))
    except OSError as error:
        for one in sockets:
            one.close()
        taken = binds[len(sockets)]
        raise SetupError(f"cannot listen on {taken}: {error.strerror or error}; choose another address with --bind") from error
    except SetupError:
        for one in sockets:
            one.close()
        raise
    return sockets


def _listening(bind: str, backlog: int) -> socket.socket:
    if bind.startswith("unix:"):
        return _listening_unix(bind.removeprefix("unix:"), backlog)
    host, colon, port = bind.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SetupError(f"--bind {bind}: write HOST:PORT or unix:PATH, for example 127.0.0.1:8000")
    host = host.removeprefix("[").removesuffix("]")
    family, kind, protocol, _, address = socket.getaddrinfo(host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return _listener(socket.socket(family, kind, protocol), address, backlog)


def _listener(listener: socket.socket, address: Any, backlog: int) -> socket.socket:
    """Listen, without blocking later; closed when that cannot be."""
    try:
        if listener.family != socket.AF_UNIX:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _listening_unix(path: str, backlog: int) -> socket.socket:
    if not path:
        raise SetupError("--bind unix: lacks the path, for example unix:/run/shop.sock")
    if os.path.exists(path):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise SetupError(f"--bind unix:{path}: a file that is no socket is there already")
        if _answers(path):
            raise SetupError(f"--bind unix:{path}: another process listens there")
        os.unlink(path)
    return _listener(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path, backlog)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def shown(listener: socket.socket, scheme: str) -> str:
    """Return the address as a user would type it into a client; scheme: what TCP listeners speak."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{scheme}://{host}:{name[1]}"
