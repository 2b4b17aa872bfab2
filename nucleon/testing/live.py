"""A service run whole: `nucleon serve` in a process of its own, over real sockets."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from nucleon.testing.answer import Answer
from nucleon.testing.calls import Calls
from nucleon.testing.waiting import eventually


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LiveServer(Calls):
    """Run `python -m nucleon serve TARGET --bind 127.0.0.1:PORT` and wait until it accepts connections.

    options: further words for `nucleon serve`. command: run this instead (another server; `{port}` is filled in).
    folder: the working directory. environment: added to ours. Raises `AssertionError` with the log when it does not come up.
    """

    def __init__(
        self,
        target: str = "app",
        *options: str,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
        within_seconds: float = 30.0,
    ) -> None:
        super().__init__()
        self.host, self.port = "127.0.0.1", free_port()
        served = [sys.executable, "-m", "nucleon", "serve", target, "--bind", f"{self.host}:{self.port}", *options]
        self.command = [word.replace("{port}", str(self.port)) for word in command] or served
        self.folder = folder
        self.environment = {"PYTHONUNBUFFERED": "1", "NUCLEON_ENV": "test", **(environment or {})}
        self.within_seconds = within_seconds
        self.process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  close() closes it
        self._connections: list[http.client.HTTPConnection] = []

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return (self.host, self.port)

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the master."""
        assert self.process is not None, "the server has not been started"
        return self.process.pid

    def worker_pids(self) -> list[int]:
        """The process ids of the master's children."""
        try:
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except FileNotFoundError:
            return []

    @property
    def log(self) -> str:
        """Everything that the server has written to standard output and error."""
        return os.pread(self._log.fileno(), 10_000_000, 0).decode(errors="replace")

    def log_lines(self, containing: str = "") -> list[str]:
        """Return the lines of the log that contain a text."""
        return [line for line in self.log.splitlines() if containing in line]

    def wait_for_log(self, text: str, within_seconds: float = 10.0) -> str:
        """Return the first log line with `text`, waiting for it. Raises `AssertionError` with the log."""
        try:
            return eventually(lambda: self.log_lines(text), within_seconds)[0]
        except AssertionError:
            raise AssertionError(f"no {text!r} in the log within {within_seconds} s:\n{self.log}") from None

    def start(self) -> None:
        """Start the process and wait until it accepts."""
        assert self.process is None, "the server is running already"
        self.process = subprocess.Popen(
            self.command, cwd=self.folder, env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL,
            stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        try:
            eventually(self._accepts_or_gone, self.within_seconds)
        except AssertionError as error:
            log = self.log
            self.close()
            raise AssertionError(f"{' '.join(self.command)} does not accept ({error}); its log:\n{log}") from None

    def _accepts_or_gone(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"it ended with {self.process.returncode}")
        try:
            socket.create_connection(self.address, timeout=5).close()
        except OSError:
            return False
        return True

    def signal(self, which: signal.Signals) -> None:
        """Send the master a signal."""
        os.kill(self.pid, which)

    def wait(self, within_seconds: float = 30.0) -> int:
        """Wait until the process has gone and return its exit code. Raises `AssertionError` with the log."""
        assert self.process is not None
        try:
            return self.process.wait(within_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_seconds} s; its log:\n{self.log}") from None

    def stop(self, within_seconds: float = 30.0) -> int:
        """Ask it to stop (SIGTERM) and return its exit code."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(within_seconds)

    def kill(self) -> None:
        """End the master at once (SIGKILL), as the kernel would when memory is short."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def close(self) -> None:
        """End whatever still runs of it and close everything. A second call does nothing."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait(10)
        self._log.close()

    def __enter__(self) -> "LiveServer":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None and self.process is not None and self.process.poll() is None:
                self.stop()
        finally:
            self.close()

    def send(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """Carry one request over a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        self._connections.append(connection)

        def close() -> None:
            response.close()
            connection.close()
            if connection in self._connections:
                self._connections.remove(connection)

        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        response = connection.getresponse()
        return Answer(response.status, response.getheaders(), _pieces(response), close)


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := response.read1(65536):
        yield piece
