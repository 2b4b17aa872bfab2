"""`serve` and `dev`: what the master does before it forks, and what each worker does after."""

import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass, replace

from nucleon import process
from nucleon.cli.consuming import drained, made_queues, started_consumers
from nucleon.cli.loading import Ask, prepared
from nucleon.cli.sockets import bound, shown
from nucleon.cli.speaking import one_speaker
from nucleon.config import EMBEDDED_ENVIRONMENTS, Config, load, master_types, start_logging

log = logging.getLogger("nucleon")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the master knows: the settings that it needs itself, and its sockets."""

    ask: Ask
    config: Config
    sockets: list[socket.socket]


def planned(ask: Ask) -> Plan:
    """Read the master's settings and bind the sockets. Raises `SetupError`."""
    config = load(master_types(), environment=ask.environment, folder=ask.config_folder, flags=ask.flags, is_open=True)
    start_logging(config.sections["log"])
    listen = config.sections["listen"]
    return Plan(ask, config, bound(listen.bind, listen.backlog))


def serve(plan: Plan) -> int:
    """Fork the workers and stay until told to stop; return the exit code."""
    settings: process.Settings = plan.config.sections["process"]
    if plan.config.environment in EMBEDDED_ENVIRONMENTS and ("process", "workers") not in plan.config.origins:
        settings = replace(settings, workers=1)
    names = [listener.getsockname() for listener in plan.sockets]
    try:
        with one_speaker() as is_speaker:
            return process.run(settings, plan.sockets, lambda sockets: _work(plan, sockets, is_speaker(), settings))
    finally:
        for listener, name in zip(plan.sockets, names, strict=True):
            listener.close()
            if isinstance(name, str) and os.path.exists(name):
                os.unlink(name)


def _work(plan: Plan, sockets: list[socket.socket], is_speaker: bool, settings: process.Settings) -> None:
    """Serve in a worker until SIGTERM: patch, import, configure, listen, drain."""
    program = prepared(plan.ask, announce=is_speaker)
    import gevent
    import gevent.event
    import gevent.socket

    from nucleon.server import Server

    server = Server(program.application, program.config.sections["server"])
    for one in sockets:
        server.add_listener(gevent.socket.socket(one.family, one.type, one.proto, fileno=os.dup(one.fileno())))
    is_stopping = gevent.event.Event()
    gevent.signal_handler(signal.SIGTERM, is_stopping.set)
    gevent.signal_handler(signal.SIGQUIT, os._exit, 1)
    server.start(before_accepting=lambda: made_queues(program))
    consumers = started_consumers(program)
    process.ready()
    if is_speaker:
        scheme = "https" if program.config.sections["server"].tls_certificate else "http"
        where = ", ".join(shown(one, scheme) for one in sockets)
        workers = f"{settings.workers} worker{'s' if settings.workers > 1 else ''}"
        print(f"serving {plan.ask.target} on {where} ({program.config.environment}, {workers})", file=sys.stderr, flush=True)
    is_stopping.wait()
    server.stop_accepting()
    for one in sockets:
        one.close()
    draining = gevent.spawn(drained, consumers, settings.drain_seconds)
    cancelled = server.drain(settings.drain_seconds)
    draining.join()
    if cancelled:
        log.error("%d requests were cancelled: still running after %g seconds", cancelled, settings.drain_seconds)
    server.stop()
