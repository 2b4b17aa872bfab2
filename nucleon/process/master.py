"""The master: forks workers that share the listening sockets, and keeps their number until it is told to stop.

It waits in one select() for signals and for its workers' reports. It serves nothing and imports nothing of the
application, so there is nothing in it that can block or crash, and a reload really starts from new code.
"""

import logging
import math
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from types import FrameType

from nucleon.errors import SetupError
from nucleon.process.settings import Settings
from nucleon.process.worker import READY, REPORT_LIMIT_BYTES, Work, become_worker, work_and_leave

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD)
LONGEST_WAIT_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 1.0  # at most one fork a second while workers fail at their start
SHORT_LIFE_SECONDS = 1.0  # a worker that ends sooner counts as failed at its start

log = logging.getLogger("nucleon.process")


def run(settings: Settings, sockets: list[socket.socket], work: Work) -> int:
    """Run `work(sockets)` in workers until SIGTERM or SIGINT, and return the exit code.

    SIGTERM, SIGINT: workers get SIGTERM and finish what runs; the master closes `sockets`, and `work` closes its copies, so that new
    clients are refused meanwhile. A second SIGINT, or SIGQUIT: they stop at once.
    SIGHUP: new workers start, then the old ones finish; when the new ones fail, the old ones stay.
    Returns 0 after a stop in which every worker left by itself, 1 when one had to be killed or when all the first
    workers failed (their errors are on standard error). Raises SetupError in a process that gevent has patched.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("socket"):
        raise SetupError("the master must not be patched by gevent: patch in the worker, after the fork")
    return Master(settings, sockets, work).run()


@dataclass(slots=True, eq=False)
class Worker:
    """What the master knows of one worker."""

    pid: int
    report: int
    generation: int
    forked_at: float
    is_ready: bool = False
    is_silent: bool = False
    kill_at: float | None = None
    said: bytes = b""

    def fault(self) -> str:
        """Return what the worker said before it ended."""
        return self.said.removeprefix(READY).decode(errors="replace").strip()


class Master:
    """The state of a running master; `run` is the only way in."""

    def __init__(self, settings: Settings, sockets: list[socket.socket], work: Work) -> None:
        self._settings = settings
        self._sockets = sockets
        self._work = work
        self._workers: dict[int, Worker] = {}
        self._generation = 1
        self._was_ever_ready = False
        self._stopping = False
        self._quick = False
        self._reload_wanted = False
        self._failures = 0
        self._next_fork_at = 0.0
        self._code = 0
        self._faults: list[str] = []
        self._wake_reader, self._wake_writer = -1, -1

    def run(self) -> int:
        """Start the workers and watch over them until the last one has gone."""
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        previous = {number: signal.signal(number, _note) for number in HANDLED}
        previous_wake = signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        try:
            for _ in range(self._settings.workers):
                self._fork()
            while self._workers or not self._stopping:
                self._wait()
                self._tend(time.monotonic())
        finally:
            signal.set_wakeup_fd(previous_wake)
            for number, handler in previous.items():
                signal.signal(number, handler)
            os.close(self._wake_reader)
            os.close(self._wake_writer)
        for fault in dict.fromkeys(self._faults if not self._was_ever_ready else ()):
            sys.stderr.write(f"{fault}\n")
        return self._code

    def _fork(self) -> None:
        reader, writer = os.pipe()
        master = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # a signal for the newborn must not run our handlers
        pid = os.fork()
        if pid == 0:

            def start_and_work(sockets: list[socket.socket]) -> None:
                become_worker(writer, master)
                for inherited in (reader, self._wake_reader, self._wake_writer, *(worker.report for worker in self._workers.values())):
                    os.close(inherited)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
                self._work(sockets)

            work_and_leave(start_and_work, self._sockets)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        os.close(writer)
        os.set_blocking(reader, False)
        self._workers[pid] = Worker(pid, reader, self._generation, time.monotonic())

    def _wait(self) -> None:
        reports = {worker.report: worker for worker in self._workers.values() if not worker.is_ready and not worker.is_silent}
        readable, _, _ = select.select([self._wake_reader, *reports], [], [], self._seconds_to_next(time.monotonic()))
        for descriptor in readable:
            if descriptor != self._wake_reader:
                self._hear(reports[descriptor])
                continue
            for number in os.read(self._wake_reader, 1024):
                self._answer(signal.Signals(number))

    def _seconds_to_next(self, now: float) -> float:
        times = [worker.kill_at for worker in self._workers.values() if worker.kill_at is not None]
        times += [worker.forked_at + self._settings.boot_seconds for worker in self._workers.values() if not worker.is_ready]
        if self._missing():
            times.append(self._next_fork_at)
        return min(max(0.0, min(times, default=now + LONGEST_WAIT_SECONDS) - now), LONGEST_WAIT_SECONDS)

    def _hear(self, worker: Worker) -> None:
        try:
            said = os.read(worker.report, REPORT_LIMIT_BYTES)
        except BlockingIOError:
            return
        worker.said += said
        if worker.said.startswith(READY):
            self._note_ready(worker)
        worker.is_silent = not said  # the end of the file: SIGCHLD tells the rest

    def _note_ready(self, worker: Worker) -> None:
        if not worker.is_ready:
            worker.is_ready = self._was_ever_ready = True
            self._failures = 0

    def _answer(self, number: signal.Signals) -> None:
        if number == signal.SIGCHLD:
            return  # `_tend` looks for the dead after every wait
        if number == signal.SIGHUP:
            self._reload_wanted = True  # after the one under way, which may have read half of the new code
            return
        self._quick = number == signal.SIGQUIT or (self._stopping and number == signal.SIGINT)
        if self._quick or not self._stopping:
            log.info("%s: %s", number.name, "stopping at once" if self._quick else "stopping when the running requests are done")
            self._stopping = True
            for listener in self._sockets:
                listener.close()  # with those of the workers: who comes now is refused at once, instead of waiting for nobody
            self._dismiss(list(self._workers.values()))

    def _dismiss(self, workers: list[Worker]) -> None:
        patience = self._settings.kill_seconds + (0 if self._quick else self._settings.drain_seconds)
        for worker in workers:
            worker.kill_at = time.monotonic() + patience
            os.kill(worker.pid, signal.SIGQUIT if self._quick else signal.SIGTERM)  # not reaped yet, so the id is still its own

    def _reload(self) -> None:
        self._reload_wanted = False
        log.info("reload: starting %d new workers", self._settings.workers)
        self._generation += 1
        for _ in range(self._settings.workers):
            self._fork()

    def _tend(self, now: float) -> None:
        self._reap(now)
        for worker in list(self._workers.values()):
            if worker.kill_at is not None and now >= worker.kill_at:
                log.error("worker %d did not leave in time: killed", worker.pid)
                worker.kill_at, self._code = math.inf, 1
                os.kill(worker.pid, signal.SIGKILL)
            elif now >= worker.forked_at + self._settings.boot_seconds:
                self._note_ready(worker)
        self._retire_old()
        if self._reload_wanted and not self._stopping and all(worker.is_ready for worker in self._workers.values()):
            self._reload()
        if self._missing() and now >= self._next_fork_at:
            self._fork()
            if self._failures:
                self._next_fork_at = now + self._pause_seconds()

    def _reap(self, now: float) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:  # as PID 1 of a container we inherit strangers: reaped, and nothing else
                self._hear(worker)
                os.close(worker.report)
                self._mourn(worker, os.waitstatus_to_exitcode(status), now)

    def _mourn(self, worker: Worker, code: int, now: float) -> None:
        end = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if self._stopping or worker.kill_at is not None:
            log.info("worker %d has left: %s", worker.pid, end)
            return
        fault = worker.fault() or f"worker {worker.pid} ended at its start: {end}"
        if not self._was_ever_ready:
            self._faults.append(fault)
            self._stopping, self._code = not self._workers, 1 if not self._workers else self._code
            return
        if worker.is_ready and now - worker.forked_at >= SHORT_LIFE_SECONDS:
            log.error("worker %d died: %s; starting another", worker.pid, end)
            return
        log.error("worker %d failed at its start: %s", worker.pid, fault)
        self._failures += 1
        self._next_fork_at = now + self._pause_seconds()
        if any(other.generation < self._generation for other in self._workers.values()):
            self._give_up_reload()

    def _give_up_reload(self) -> None:
        log.error("reload failed: the old workers stay")
        newest = [worker for worker in self._workers.values() if worker.generation == self._generation]
        self._generation -= 1
        self._dismiss(newest)

    def _retire_old(self) -> None:
        staying = [worker for worker in self._workers.values() if worker.kill_at is None]
        current = [worker for worker in staying if worker.generation == self._generation]
        old = [worker for worker in staying if worker.generation < self._generation]
        if old and not self._stopping and len(current) >= self._settings.workers and all(worker.is_ready for worker in current):
            log.info("%d new workers are ready: %d old ones finish", len(current), len(old))
            self._dismiss(old)

    def _missing(self) -> bool:
        if self._stopping or not self._was_ever_ready:
            return False
        serving = sum(1 for worker in self._workers.values() if worker.kill_at is None and worker.generation == self._generation)
        return serving < self._settings.workers

    def _pause_seconds(self) -> float:
        return float(min(FIRST_PAUSE_SECONDS * 2 ** (self._failures - 1), self._settings.restart_limit_seconds))


def _note(_number: int, _frame: FrameType | None) -> None:
    """Let the signal reach the wake-up pipe, signal.set_wakeup_fd."""
