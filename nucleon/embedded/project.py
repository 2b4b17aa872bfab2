"""One pair of embedded services for each project folder, shared by all its processes, gone when the last of them goes.

    users.lock       every process that uses the services shares it; forked workers inherit it
    start.lock       held while somebody starts the services
    supervisor.lock  held for the life of the supervisor process

The supervisor wants users.lock for itself alone: it gets it when the last user has gone, killed or not, because the
kernel drops the locks of a dead process.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from nucleon.embedded.servers import START_SECONDS, lock_at_once
from nucleon.errors import SetupError

LINGER_SECONDS = 1.0  # a reload lets go of the services and takes them again
POLL_SECONDS = 0.02
PATIENCE_SECONDS = START_SECONDS + 30


@dataclass(frozen=True, slots=True)
class Services:
    """Where the services of a project answer.

    started: whether this call started them (a line for the user), or found them running.
    """

    postgres_dsn: str
    redis_url: str
    folder: Path
    supervisor_pid: int
    started: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of the services below a project."""

    home: Path

    @classmethod
    def of(cls, project: Path) -> "Layout":
        """Return the layout of a project and make its folder, which git ignores."""
        home = project.resolve() / ".nucleon"
        home.mkdir(parents=True, exist_ok=True)
        ignore = home / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        return cls(home)

    @property
    def state(self) -> Path:
        """The file that says where the running services answer."""
        return self.home / "embedded.json"

    @property
    def log(self) -> Path:
        """The supervisor's log."""
        return self.home / "supervisor.log"

    def lock_file(self, name: str) -> IO[str]:
        """Open the lock file `name`."""
        return (self.home / f"{name}.lock").open("a")

    def write_state(self, services: Services) -> None:
        """Publish where the services answer, whole or not at all."""
        unfinished = self.state.with_suffix(".new")
        unfinished.write_text(json.dumps({**asdict(services), "folder": str(services.folder)}))
        unfinished.replace(self.state)

    def read_state(self) -> Services | None:
        """Return where the services answer, or None when they do not."""
        try:
            facts: dict[str, Any] = json.loads(self.state.read_text())
        except FileNotFoundError:
            return None
        return Services(**{**facts, "folder": Path(facts["folder"])})


_held: dict[Path, IO[str]] = {}


def acquire(project: Path, *, environment: str | None = None, linger_seconds: float = LINGER_SECONDS) -> Services:
    """Return the embedded services of a project, and start them when nobody has.

    They run until this process, its forks and every other user have gone; the data stay below `project/.nucleon`.
    environment: the name of the environment, by default what NUCLEON_ENV says.
    Raises SetupError in production, without the wheels, and when a server does not start.
    """
    if (environment or os.environ.get("NUCLEON_ENV")) == "production":
        raise SetupError("embedded services are never used in production: set NUCLEON_POSTGRES__DSN and NUCLEON_REDIS__URL")
    layout = Layout.of(project)
    with layout.lock_file("start") as start:
        _wait_until_locked(start, fcntl.LOCK_EX, f"somebody is starting the services of {project} for too long: see {layout.log}")
        users = _held.get(layout.home) or layout.lock_file("users")
        try:
            _wait_until_locked(users, fcntl.LOCK_SH, f"the services of {project} do not stop: see {layout.log}")
            services = _find_or_start(layout, project, linger_seconds)
        except SetupError:
            if layout.home not in _held:
                users.close()
            raise
        _held[layout.home] = users  # open, so locked, until this process and its forks have gone
        return services


def release(project: Path) -> None:
    """Let go of the services before the process ends; forks that inherited them still hold them."""
    users = _held.pop(Layout.of(project).home, None)
    if users is not None:
        users.close()


def _find_or_start(layout: Layout, project: Path, linger_seconds: float) -> Services:
    supervisor: subprocess.Popen[bytes] | None = None
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if supervisor is None and not _is_supervised(layout):
            layout.state.unlink(missing_ok=True)  # left by a supervisor that was killed
            supervisor = _start_supervisor(layout, project, linger_seconds)
        services = layout.read_state()
        if services is not None:
            return replace(services, started=supervisor is not None)
        if supervisor is not None and supervisor.poll() is not None:
            raise SetupError(f"embedded services did not start: {_last_words(layout.log)}")
        time.sleep(POLL_SECONDS)
    raise SetupError(f"embedded services did not start in {PATIENCE_SECONDS:g} s: see {layout.log}")


def _is_supervised(layout: Layout) -> bool:
    with layout.lock_file("supervisor") as probe:
        return not lock_at_once(probe)


def _start_supervisor(layout: Layout, project: Path, linger_seconds: float) -> "subprocess.Popen[bytes]":
    library = Path(__file__).resolve().parents[2]
    with layout.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "nucleon.embedded.supervisor", str(project.resolve()), str(linger_seconds)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",  # the project's own modules must not shadow anything
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(library), *filter(None, [os.environ.get("PYTHONPATH")])])},
            start_new_session=True,
        )


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-2500:] or f"nothing in {log}"


def _wait_until_locked(file: IO[str], how: int, complaint: str) -> None:
    # never a blocking flock: another greenlet of this process may be the one that holds it
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise SetupError(complaint) from None
            time.sleep(POLL_SECONDS)
