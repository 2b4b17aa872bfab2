"""The worker's side of a fork: leave the master's state behind, work, say how it went, go."""

import atexit
import ctypes
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Final

from nucleon.errors import SetupError
from nucleon.process.heap import keep_freed_memory

Work = Callable[[list[socket.socket]], None]

PR_SET_PDEATHSIG = 1  # prctl(2)
READY: Final = b"ready\n"
REPORT_LIMIT_BYTES = 16_384  # fits into the pipe's buffer, so a worker never waits for its master here
RESET = (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD)

_report: int | None = None


def ready() -> None:
    """Tell the master that this worker takes requests; does nothing outside a worker.

    A reload lets go of the old workers only when the new ones have said so.
    """
    _tell(READY)


def become_worker(report: int, master: int) -> None:
    """Turn a fresh fork into a worker: signals as in a new process, no life after the master's, freed memory kept for the next request.

    report: the writing end of the pipe to the master. SIGINT is ignored, because a terminal sends it to the whole group
    and the master answers it with SIGTERM to its workers.
    """
    global _report
    _report = report
    signal.set_wakeup_fd(-1)
    for number in RESET:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._clear()  # the master's exit functions are the master's
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    keep_freed_memory()
    if os.getppid() != master:  # it went before the line above
        os._exit(1)


def work_and_leave(work: Work, sockets: list[socket.socket]) -> None:
    """Work, and end the process: 0 when the work returned, 1 when it failed; never returns."""
    code = 1
    try:
        work(sockets)
        code = 0
    except SystemExit as leaving:
        code = _code_of(leaving)
    except SetupError as fault:
        _tell(str(fault).encode())
    except Exception as fault:  # noqa: BLE001 - the last line of a process: whatever failed is told and ends it
        traceback.print_exc()
        _tell(f"{type(fault).__name__}: {fault}".encode())
    finally:
        atexit._run_exitfuncs()
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 1
        os._exit(code)


def _code_of(leaving: SystemExit) -> int:
    if leaving.code is None or isinstance(leaving.code, int):
        return leaving.code or 0
    _tell(str(leaving.code).encode())
    return 1


def _tell(what: bytes) -> None:
    if _report is not None:
        try:
            os.write(_report, what[:REPORT_LIMIT_BYTES])
        except OSError:  # the master has gone, and we are about to
            pass
