"""One line per log record on standard error, with the id of the request it belongs to."""

import logging
import sys
from copy import copy
from dataclasses import dataclass
from typing import Literal, TextIO

from nucleon.hooks import request_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Section [log]. level: the least severe records that are written."""

    level: Literal["debug", "info", "warning", "error", "critical"] = "info"


class OneLine(logging.Formatter):
    """Time, level, logger, request id, message; line ends inside are escaped, so that nobody can forge a line.

    is_for_people: tracebacks stand below their line, each line of them indented, which a line of the log never is.
    """

    default_msec_format = "%s.%03d"

    def __init__(self, *, is_for_people: bool = False) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._is_for_people = is_for_people

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, for people with its traceback below."""
        trace = ""
        if self._is_for_people and record.exc_info:
            trace = self.formatException(record.exc_info)
            record = copy(record)
            record.exc_info = record.exc_text = None
        line = super().format(record)
        identity = request_id.get()
        if identity is not None:
            line = line.replace(f" [request {identity}]", "", 1)  # messages name it for other formatters
            line = f"{line} request_id={identity}"
        return "\n    ".join([_printable(line), *(_printable(one) for one in trace.splitlines())])


def start_logging(settings: Settings, stream: TextIO | None = None) -> logging.Handler:
    """Send the standard library's log records to `stream` (default: standard error) and return the handler.

    On a terminal tracebacks have lines of their own; everywhere else a record is one line.
    """
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine(is_for_people=stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    return handler


def _printable(line: str) -> str:
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in line)
