"""The parent of `nucleon dev`: runs the service, and again when a file has changed. A broken app does not end it."""

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from nucleon.errors import SetupError

WATCHED = (".py", ".toml", ".sql", ".html")
DRAIN_SECONDS = 2.0  # a stream may never end by itself, and nobody wants to wait for it here
PATIENCE_SECONDS = 10.0


def watch(words: Sequence[str], project: Path) -> int:
    """Run the command until SIGINT or SIGTERM, and start it again after each change under `project`; return the exit code."""
    try:
        from watchfiles import DefaultFilter
        from watchfiles import watch as changes_in
    except ModuleNotFoundError:
        raise SetupError("nucleon dev needs watchfiles: pip install 'nucleon[dev]', or use nucleon serve") from None

    class Sources(DefaultFilter):
        """Files that a service is made of; not its data, caches or editors' droppings."""

        ignore_dirs = (*DefaultFilter.ignore_dirs, ".nucleon")

        def __call__(self, change: object, path: str) -> bool:
            return path.endswith(WATCHED) and super().__call__(change, path)  # type: ignore[arg-type]

    is_over = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        is_over.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    served = _started(words)
    try:
        for changes in changes_in(project, watch_filter=Sources(), stop_event=is_over, raise_interrupt=False):
            names = sorted({str(Path(path).relative_to(project)) for _change, path in changes})
            print(f"changed: {', '.join(names[:3])}{' ...' if names[3:] else ''}; starting again", file=sys.stderr, flush=True)
            _stop(served)
            served = _started(words)
    finally:
        _stop(served)
    return 0


def _started(words: Sequence[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)  # Ctrl-C is ours to pass on


def _stop(served: "subprocess.Popen[bytes]") -> None:
    if served.poll() is None:
        for number, seconds in ((signal.SIGTERM, DRAIN_SECONDS), (signal.SIGQUIT, PATIENCE_SECONDS), (signal.SIGKILL, None)):
            served.send_signal(number)
            try:
                served.wait(seconds)
                return
            except subprocess.TimeoutExpired:
                print(f"requests still run after {seconds:g} s: cut off", file=sys.stderr, flush=True)
