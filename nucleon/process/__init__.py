"""Master and workers: fork, watch, signal, drain, reload. The master has no event loop and never imports gevent."""

from nucleon.process.heap import keep_freed_memory
from nucleon.process.master import run
from nucleon.process.settings import Settings, usable_cores
from nucleon.process.worker import Work, ready

__all__ = ["Settings", "Work", "keep_freed_memory", "ready", "run", "usable_cores"]
