"""The process that owns the embedded services of a project: `python -m nucleon.embedded.supervisor PROJECT LINGER_SECONDS`."""

import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import IO

from nucleon.embedded.project import Layout, Services
from nucleon.embedded.servers import EmbeddedServer, PostgresServer, ValkeyServer, lock_at_once
from nucleon.errors import SetupError

WATCH_SECONDS = 0.25
RESTART_LIMIT_SECONDS = 5.0


def supervise(project: Path, linger_seconds: float) -> None:
    """Run the services of a project until their last user has gone; a server that died is started again.

    Raises SetupError when they do not start.
    """
    layout = Layout.of(project)
    with layout.lock_file("supervisor") as alone, layout.lock_file("users") as users:
        fcntl.flock(alone, fcntl.LOCK_EX)
        postgres, redis = PostgresServer(layout.home), ValkeyServer(layout.home)
        stopping: list[int] = []

        def note(number: int, _frame: FrameType | None) -> None:
            stopping.append(number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, note)
        try:
            redis.start()
            postgres.start()
            layout.write_state(Services(postgres.dsn, redis.url, layout.home, os.getpid()))
            _watch([postgres, redis], users, stopping, linger_seconds)
        finally:
            layout.state.unlink(missing_ok=True)
            postgres.stop()
            redis.stop()


def _watch(servers: list[EmbeddedServer], users: IO[str], stopping: list[int], linger_seconds: float) -> None:
    pause_seconds = WATCH_SECONDS
    while not stopping:
        if lock_at_once(users):
            fcntl.flock(users, fcntl.LOCK_UN)
            time.sleep(linger_seconds)
            if lock_at_once(users):  # kept until we have gone: a newcomer waits, then starts afresh
                return
            continue
        time.sleep(pause_seconds)
        pause_seconds = _restart_dead(servers, stopping, pause_seconds)


def _restart_dead(servers: list[EmbeddedServer], stopping: list[int], pause_seconds: float) -> float:
    """Start the servers that died and return how long to wait before the next look."""
    for server in servers:
        if not stopping and not server.is_running():
            print(f"{server!r} died: starting it again", file=sys.stderr, flush=True)  # noqa: T201 - the supervisor's log is this stream
            try:
                server.start()
            except SetupError as error:
                print(error, file=sys.stderr, flush=True)  # noqa: T201
                return min(pause_seconds * 2, RESTART_LIMIT_SECONDS)
    return WATCH_SECONDS


if __name__ == "__main__":
    try:
        supervise(Path(sys.argv[1]), float(sys.argv[2]))
    except SetupError as problem:
        sys.exit(str(problem))
