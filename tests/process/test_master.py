"""The master and its workers, as real processes with real signals."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nucleon import process
from nucleon.process import Settings

LIBRARY = Path(process.__file__).parents[2]
HEADER = """
import logging, os, signal, socket, sys, time
from nucleon import process
from nucleon.errors import SetupError
logging.basicConfig(level="INFO", format="%(message)s")
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
leaving = []
def serve(sockets):
    signal.signal(signal.SIGTERM, lambda *_: leaving.append(1))
    process.ready()
    os.write(1, b"ready %d\\n" % os.getpid())
    sockets[0].settimeout(0.05)
    while not leaving:
        try:
            client, _ = sockets[0].accept()
        except TimeoutError:
            continue
        with client:
            client.settimeout(5)
            client.sendall(b"%d\\n" % os.getpid())
            seconds = float(client.recv(100))
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(0.01)
            client.sendall(b"done\\n")
"""
RUN = """
settings = process.Settings(workers=2, drain_seconds={drain}, kill_seconds={kill}, boot_seconds=10)
sys.exit(process.run(settings, [listener], {work}))
"""


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


class Service:
    """A master in a subprocess whose workers write `ready PID` when they serve."""

    def __init__(self, script: str = "", *, work: str = "serve", drain: float = 5, kill: float = 5) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        code = HEADER + script + RUN.format(work=work, drain=drain, kill=kill)
        environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
        command = [sys.executable, "-c", code, str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)

    def next_worker(self) -> int:
        assert self.process.stdout is not None
        word, pid = self.process.stdout.readline().split()
        assert word == "ready"
        return int(pid)

    def two_workers(self) -> list[int]:
        return [self.next_worker(), self.next_worker()]

    def open(self) -> tuple[socket.socket, int]:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        return client, int(client.recv(100))

    def ask(self, seconds: float = 0) -> int:
        client, pid = self.open()
        with client:
            client.sendall(b"%f" % seconds)
            assert client.recv(100) == b"done\n"
        return pid

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=15)
        return self.process.returncode, errors

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        return self.end()


@pytest.fixture
def start() -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def begin(*arguments: str, **options: object) -> Service:
        services.append(Service(*arguments, **options))  # type: ignore[arg-type]
        return services[-1]

    yield begin
    for service in services:
        service.process.kill()
        service.process.communicate()


def test_workers_killed_are_replaced_and_the_service_goes_on(start: Callable[..., Service]) -> None:
    service = start()
    first, second = service.two_workers()
    time_of_death = time.monotonic()
    for worker in (first, second):
        os.kill(worker, signal.SIGKILL)
    others = service.two_workers()
    assert time.monotonic() - time_of_death < 5
    assert not {first, second} & set(others)
    assert service.ask() in others
    code, errors = service.stop()
    assert code == 0
    assert "SIGKILL" in errors


def test_sigterm_lets_running_work_finish_and_exits_with_0(start: Callable[..., Service]) -> None:
    service = start()
    workers = service.two_workers()
    client, _ = service.open()
    with client:
        service.process.send_signal(signal.SIGTERM)
        client.sendall(b"0.5")
        assert client.recv(100) == b"done\n"
    assert service.end()[0] == 0
    assert not any(is_alive(worker) for worker in workers)


def test_an_interrupt_of_the_whole_group_is_one_graceful_stop(start: Callable[..., Service]) -> None:
    service = start()
    workers = service.two_workers()
    client, _ = service.open()
    with client:
        for pid in (service.process.pid, *workers):  # what a terminal does on Ctrl-C
            os.kill(pid, signal.SIGINT)
        client.sendall(b"0.3")
        assert client.recv(100) == b"done\n"
    assert service.end()[0] == 0


def test_a_second_interrupt_stops_at_once(start: Callable[..., Service]) -> None:
    service = start(drain=60)
    service.two_workers()
    client, worker = service.open()
    with client:
        client.sendall(b"60")
        began = time.monotonic()
        service.process.send_signal(signal.SIGINT)
        assert service.process.stderr is not None
        assert "running requests" in service.process.stderr.readline()
        service.process.send_signal(signal.SIGINT)
        assert service.end()[0] == 0
    assert time.monotonic() - began < 10
    assert not is_alive(worker)


def test_a_worker_that_does_not_leave_is_killed_and_named(start: Callable[..., Service]) -> None:
    service = start(drain=0.1, kill=0.2)
    service.two_workers()
    client, worker = service.open()
    with client:
        client.sendall(b"60")
        code, errors = service.stop()
    assert code == 1
    assert f"worker {worker} did not leave in time: killed" in errors


def test_a_killed_master_leaves_no_worker(start: Callable[..., Service]) -> None:
    service = start()
    workers = service.two_workers()
    service.process.kill()
    wait_until(lambda: not any(is_alive(worker) for worker in workers), seconds=2)
    socket.create_server(("127.0.0.1", service.port)).close()


def test_a_failure_of_all_workers_at_the_start_ends_it_with_the_reason_once(start: Callable[..., Service]) -> None:
    service = start("def work(sockets): raise SetupError('no such module: shop')", work="work")
    code, errors = service.end()
    assert code == 1
    assert errors == "no such module: shop\n"


def test_workers_that_fail_later_are_tried_at_most_once_a_second(start: Callable[..., Service], tmp_path: Path) -> None:
    script = f"""
def work(sockets):
    with open({str(tmp_path / "forks")!r}, "a") as forks:
        forks.write("x")
    if os.path.exists({str(tmp_path / "broken")!r}):
        raise SetupError("broken")
    serve(sockets)
"""
    service = start(script, work="work")
    first, _ = service.two_workers()
    (tmp_path / "broken").touch()
    os.kill(first, signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: len((tmp_path / "forks").read_text()) >= 4)
    assert time.monotonic() - began > 0.9
    service.ask()
    assert "failed at its start: broken" in service.stop()[1]


def test_sighup_replaces_the_workers_and_fails_no_client(start: Callable[..., Service]) -> None:
    service = start()
    old = service.two_workers()
    client, _ = service.open()
    with client:
        service.process.send_signal(signal.SIGHUP)
        new = service.two_workers()
        client.sendall(b"0.2")
        assert client.recv(100) == b"done\n"
    assert not set(old) & set(new)
    wait_until(lambda: not any(is_alive(worker) for worker in old))
    assert service.ask() in new
    assert service.stop()[0] == 0


def test_a_reload_that_fails_keeps_the_old_workers(start: Callable[..., Service], tmp_path: Path) -> None:
    script = f"""
def work(sockets):
    if os.path.exists({str(tmp_path / "broken")!r}):
        raise SetupError("broken")
    serve(sockets)
"""
    service = start(script, work="work")
    old = service.two_workers()
    (tmp_path / "broken").touch()
    service.process.send_signal(signal.SIGHUP)
    assert service.process.stderr is not None
    heard = ""
    while "reload failed" not in heard:
        heard += service.process.stderr.readline()
    assert service.ask() in old
    assert all(is_alive(worker) for worker in old)
    assert service.stop()[0] == 0


def test_children_of_others_are_reaped_and_change_nothing(start: Callable[..., Service]) -> None:
    service = start("if os.fork() == 0: os._exit(3)")
    service.two_workers()
    wait_until(lambda: len(children_of(service.process.pid)) == 2)
    service.ask()
    assert service.stop()[0] == 0


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_patched_process_cannot_be_a_master() -> None:
    code = """
from nucleon import green, process
green.patch()
process.run(process.Settings(workers=1), [], lambda sockets: None)
"""
    result = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(LIBRARY)}, capture_output=True, text=True)
    assert result.returncode == 1
    assert "patch in the worker" in result.stderr


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"drain_seconds": -1}, {"kill_seconds": -1}, {"restart_limit_seconds": 0}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)


def test_ready_outside_a_worker_does_nothing() -> None:
    process.ready()
