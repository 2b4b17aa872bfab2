"""A private RabbitMQ node: its own ports, cookie, name server and folder, strange to every other node of the machine."""

import json
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from nucleon.embedded import rabbitmq_packages as packages
from nucleon.embedded.servers import LIBC, PR_SET_PDEATHSIG, START_SECONDS, STOP_SECONDS, EmbeddedServer, lock_at_once
from nucleon.errors import SetupError

LOW_PORTS = range(20_000, 32_000)  # below ip_local_port_range: an outgoing connection of somebody may sit on a higher one
CONTROL_SECONDS = 60.0
GREETING = b"AMQP\x00\x00\x09\x01"  # the protocol header, AMQP 0-9-1 section 4.2.2


class RabbitServer(EmbeddedServer):
    """RabbitMQ in a folder, user "nucleon", on ports of 127.0.0.1; port and password stay the same over restarts.

    options: lines of rabbitmq.conf over our own. plugins: those that are enabled. schedulers: threads of the Erlang machine, None for one
    a core; one starts twice as fast. cache: where the programs are unpacked, by default below `~/.cache/nucleon`. say: told in one line
    what takes long.
    """

    name = "rabbitmq"
    stop_signals = {"fast": signal.SIGTERM, "immediate": signal.SIGKILL}

    def __init__(
        self,
        folder: Path,
        *,
        options: Mapping[str, str] | None = None,
        plugins: Sequence[str] = (),
        schedulers: int | None = 1,
        cache: Path | None = None,
        say: packages.Say = lambda _line: None,
    ) -> None:
        super().__init__(folder, options=options)
        self.plugins = tuple(plugins)
        self.schedulers = schedulers
        self._cache = cache
        self._say = say
        self._programs: packages.Programs | None = None
        self._name_server: subprocess.Popen[bytes] | None = None
        kept = read_state(self.folder) or {}
        self.password = str(kept.get("password") or secrets.token_hex(12))
        self.port, self._distribution_port, self._epmd_port = free_low_ports(3, first=kept.get("port"))

    @property
    def url(self) -> str:
        """The address with user and password, of the virtual host "/"."""
        return self.url_of("/")

    def url_of(self, vhost: str) -> str:
        """Return the address of a virtual host, as the RabbitMQ URI specification writes it."""
        return f"amqp://nucleon:{self.password}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def start(self) -> None:
        """Start the node and return when it answers; the first time on a machine its programs are fetched.

        Raises SetupError with the end of its log when it stops or does not answer within a minute.
        """
        if self.is_running():
            return
        self._programs = packages.rabbitmq_programs(self._say, self._cache)
        try:
            super().start()
        except BaseException:
            self.stop("immediate")
            raise

    def stop(self, mode: str = "fast") -> None:
        """Stop the node and its name server and wait until both have gone. mode: "fast" (orderly) or "immediate" (as a crash)."""
        super().stop(mode)
        epmd, self._name_server = self._name_server, None
        if epmd is not None:
            epmd.terminate()
            try:
                epmd.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                epmd.kill()
                epmd.wait()

    def kill(self) -> None:
        """End the node with SIGKILL, as a crash would; `start` starts it again with what it had written."""
        self.stop("immediate")

    def rabbitmqctl(self, *words: str) -> str:
        """Run `rabbitmqctl` on this node and return what it printed. Raises SetupError when it fails or the node is down."""
        if not self.is_running() or self._programs is None:
            raise SetupError(f"rabbitmqctl {' '.join(words)}: {self!r} does not run")
        command = [str(self._programs.scripts / "rabbitmqctl"), "--quiet", *words]
        result = subprocess.run(
            command, env=self._environment(), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CONTROL_SECONDS
        )
        if result.returncode:
            raise SetupError(f"rabbitmqctl {' '.join(words)} failed: {(result.stderr or result.stdout).strip()[-1000:]}")
        return result.stdout

    def _prepare(self, log: IO[bytes]) -> None:
        cookie = self.data / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(20))
            cookie.chmod(0o400)
        settings = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "default_user": "nucleon",
            "default_pass": self.password,
            "log.console": "true",
            "log.console.level": "warning",
            "log.file": "false",
            "disk_free_limit.absolute": "50MB",
            "vm_memory_high_watermark.absolute": "1GB",  # of a share of the machine a busy neighbour would raise the alarm
            **self.options,
        }
        (self.data / "rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        (self.data / "enabled_plugins").write_text(f"[{', '.join(self.plugins)}].\n")
        state = self.folder / "rabbitmq.json"
        unfinished = state.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps({"port": self.port, "password": self.password, "url": self.url}))
        unfinished.replace(state)
        self._start_name_server(log)

    def _start_name_server(self, log: IO[bytes]) -> None:
        """Start Erlang's name server as our child: the one that a node starts by itself outlives it."""
        assert self._programs is not None
        if self._name_server is not None and self._name_server.poll() is None:
            return
        self._name_server = subprocess.Popen(
            [str(self._programs.epmd), "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=self._environment(), start_new_session=True,
            preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),  # noqa: PLW1509 - our processes start it from one thread
        )  # fmt: skip

    def _command(self) -> list[str]:
        assert self._programs is not None
        return [str(self._programs.scripts / "rabbitmq-server")]

    def _environment(self) -> dict[str, str]:
        assert self._programs is not None
        place = self.data
        threads = f"+S {self.schedulers}:{self.schedulers} +sbwt none" if self.schedulers else ""
        environment = {
            "PATH": f"{self._programs.erlang / 'bin'}{os.pathsep}/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "HOME": str(place),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_FLAGS": "-start_epmd false",
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_ALLOW_INPUT": "1",  # the script becomes Erlang instead of waiting for it: our signals reach the node
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(place / "advanced.config"),
            "RABBITMQ_CONFIG_FILE": str(place / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(place / "rabbitmq-env.conf"),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(place / "config"),
            "RABBITMQ_LOG_BASE": str(place / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_MNESIA_BASE": str(place / "mnesia"),
            "RABBITMQ_NODENAME": "nucleon@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_PID_FILE": str(place / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_SERVER_ERL_ARGS": threads,
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
        }
        if self._programs.libraries is not None:
            environment["LD_LIBRARY_PATH"] = str(self._programs.libraries)
        return environment

    def _answers(self) -> bool:
        with socket.socket() as client:
            client.settimeout(5)
            try:
                client.connect(("127.0.0.1", self.port))
                client.sendall(GREETING)
                return client.recv(1) == b"\x01"  # a method frame: connection.start
            except OSError:
                return False


def read_state(folder: Path) -> dict[str, Any] | None:
    """Return what the node of a folder was told: port, password, url; None when there was none."""
    try:
        facts: dict[str, Any] = json.loads((folder / "rabbitmq.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return facts


def running_rabbitmq(folder: Path) -> str | None:
    """Return the url of the node that runs in a folder, or None when none does."""
    state = read_state(folder)
    if state is None:
        return None
    with (folder / "rabbitmq.lock").open("ab") as probe:
        return None if lock_at_once(probe) else str(state["url"])


def free_low_ports(count: int, first: int | None = None) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on, below those that the kernel gives to outgoing connections.

    first: tried before the others, so that an address stays the same. Raises SetupError when there are not enough.
    """
    held: list[socket.socket] = []
    try:
        beginning = secrets.randbelow(len(LOW_PORTS))
        tried = [*([first] if first else []), *LOW_PORTS[beginning:], *LOW_PORTS[:beginning]]
        for port in tried:
            probe = socket.socket()
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that only waits out its last connections is free
            held.append(probe)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                held.pop().close()
                continue
            if len(held) == count:
                return [int(one.getsockname()[1]) for one in held]
        raise SetupError(f"there are no {count} free ports from {LOW_PORTS.start} to {LOW_PORTS.stop}")
    finally:
        for probe in held:
            probe.close()


__all__ = ["START_SECONDS", "RabbitServer", "free_low_ports", "read_state", "running_rabbitmq"]
