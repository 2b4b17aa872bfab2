"""One line per log record on standard error, with the id of the request it belongs to."""

import logging
import sys
from dataclasses import dataclass
from typing import Literal, TextIO

from nucleon.hooks import request_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Section [log]. level: the least severe records that are written."""

    level: Literal["debug", "info", "warning", "error", "critical"] = "info"


class OneLine(logging.Formatter):
    """Time, level, logger, request id, message; line ends inside are escaped, so that nobody can forge a line."""

    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line = super().format(record)
        identity = request_id.get()
        if identity is not None:
            line = f"{line} request_id={identity}"
        return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in line)


def start_logging(settings: Settings, stream: TextIO | None = None) -> logging.Handler:
    """Send the standard library's log records to `stream` (default: standard error) and return the handler."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(OneLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    return handler
