"""Consumers in a worker process: beside the server of `nucleon serve`, or alone in `nucleon worker`."""

import logging
import os
import signal
import sys
from dataclasses import replace
from typing import Any

from nucleon import process
from nucleon.cli.loading import Ask, Program, prepared
from nucleon.cli.speaking import one_speaker
from nucleon.config import EMBEDDED_ENVIRONMENTS, Config, load, master_types, start_logging
from nucleon.errors import SetupError

log = logging.getLogger("nucleon")


QUEUES_SECONDS = 2.0  # patience of a start with a broker that is away; the queues are made later then


def made_queues(program: Program) -> None:
    """Make the queues of an app that has started, before it publishes anything: also those that only `nucleon worker` consumes."""
    if program.is_ours and program.application.consumers:
        program.application.consumers.make_queues(QUEUES_SECONDS)


def started_consumers(program: Program, always: bool = False) -> Any:
    """Start the consumers of an app that has started, when its settings or the caller say so; return what is to be drained, or None."""
    if not program.is_ours:
        return None
    consumers = program.application.consumers
    if always or program.application.settings.consume:
        return consumers if consumers.start() else None
    return consumers or None


def drained(consumers: Any, seconds: float) -> None:
    """Let what consumers work on finish within `seconds`; the rest goes back to its queue."""
    if consumers is None:
        return
    cancelled = consumers.drain(seconds)
    if cancelled:
        log.error("%d messages were given back: still worked on after %g seconds", cancelled, seconds)


def work(ask: Ask) -> int:
    """Fork workers that consume, and stay until told to stop; return the exit code."""
    config = load(master_types(), environment=ask.environment, folder=ask.config_folder, flags=ask.flags, is_open=True)
    start_logging(config.sections["log"])
    settings: process.Settings = config.sections["process"]
    if config.environment in EMBEDDED_ENVIRONMENTS and ("process", "workers") not in config.origins:
        settings = replace(settings, workers=1)
    with one_speaker() as is_speaker:
        return process.run(settings, [], lambda _sockets: _consume(ask, config, settings, is_speaker()))


def _consume(ask: Ask, config: Config, settings: process.Settings, is_speaker: bool) -> None:
    """Consume in a worker until SIGTERM: patch, import, configure, start, drain."""
    program = prepared(ask, announce=is_speaker)
    if not program.is_ours or not program.application.consumers:
        raise SetupError(f"{ask.target} consumes nothing: write @app.consume(...) above a function")
    import gevent
    import gevent.event

    is_stopping = gevent.event.Event()
    gevent.signal_handler(signal.SIGTERM, is_stopping.set)
    gevent.signal_handler(signal.SIGQUIT, os._exit, 1)
    program.application.start()
    consumers = started_consumers(program, always=True)
    if consumers is None:
        raise SetupError(f"{ask.target}: no broker is configured: set AMQP_URL, or run `nucleon embedded rabbitmq`")
    process.ready()
    if is_speaker:
        queues = ", ".join(one.queue for one in consumers.registered)
        workers = f"{settings.workers} worker{'s' if settings.workers > 1 else ''}"
        print(f"consuming {queues} for {ask.target} ({config.environment}, {workers})", file=sys.stderr, flush=True)
    is_stopping.wait()
    drained(consumers, settings.drain_seconds)
    program.application.stop()
