"""Clients that mean harm, and machines that run out: the service goes on serving the others."""

import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from nucleon.testing import LiveServer, eventually

Serve = Callable[..., LiveServer]
HASTY = {f"NUCLEON_TEST_SERVER__{name}_SECONDS": "1" for name in ("HEAD", "BODY", "WRITE", "IDLE")}
MODES = {
    "slow heads": ("-H", "-i", "1", "-t", "GET"),
    "slow bodies": ("-B", "-i", "1", "-s", "8192", "-t", "POST"),
    "slow reads": ("-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5"),
}


@pytest.mark.parametrize("mode", MODES)
def test_slowhttptest_finds_no_way_to_stop_the_service(serve: Serve, mode: str) -> None:
    tool = shutil.which("slowhttptest")
    assert tool, "slowhttptest is missing: sudo apt-get install slowhttptest"
    service = serve("plain_wsgi:app", "--workers", "1", **HASTY)
    target = service.url + ("/big" if mode == "slow reads" else "/")
    words = [tool, *MODES[mode], "-c", "200", "-r", "200", "-x", "20", "-p", "3", "-l", "4", "-u", target]
    attack = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True)
    answers = []
    while attack.poll() is None:
        answers.append(service.get("/").status)
    assert attack.stdout is not None
    said = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", attack.stdout.read())
    attack.stdout.close()
    available = re.findall(r"service available:\s+(YES|NO)", said)
    assert available and set(available) == {"YES"}, said
    assert answers and set(answers) == {200}
    eventually(lambda: open_connections(service) == 0, within_seconds=10)


def open_connections(service: LiveServer) -> int:
    """Count the worker's established connections."""
    (pid,) = service.worker_pids()
    port = f":{service.port:04X}"
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(words[1].endswith(port) and words[3] == "01" for words in lines)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def serve_command(*extra: str) -> list[str]:
    return [sys.executable, "-m", "nucleon", "serve", "plain_wsgi:app", "--bind", "127.0.0.1:{port}", "--workers", "1", *extra]


@contextmanager
def many_connections(address: tuple[str, int], count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(address, timeout=10))
        yield


def test_out_of_descriptors_it_pauses_says_so_once_and_recovers(serve: Serve) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    command = ("sh", "-c", f"ulimit -n 64; exec {' '.join(serve_command())}")
    service = serve("plain_wsgi:app", command=command, NUCLEON_TEST_SERVER__HEAD_SECONDS="60")
    (worker,) = eventually(service.worker_pids)
    with many_connections(service.address, 200):
        service.wait_for_log("accepting pauses")
        before = cpu_seconds(worker)
        with pytest.raises(TimeoutError), socket.create_connection(service.address, timeout=1.0) as late:
            late.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            late.recv(100)
        assert cpu_seconds(worker) - before < 0.5, "it spins on accept()"
    assert eventually(lambda: service.get("/").status) == 200
    assert len(service.log_lines("accepting pauses")) == 1
    assert service.worker_pids() == [worker]


def test_a_log_on_a_full_disk_fails_no_request(serve: Serve) -> None:
    service = serve("plain_wsgi:app", command=("sh", "-c", f"exec {' '.join(serve_command())} >/dev/full 2>&1"))
    with socket.create_connection(service.address, timeout=10) as wrong:
        wrong.sendall(b"GET / HTTP/9.9\r\n\r\n")  # gives a log line
        assert wrong.recv(100).startswith(b"HTTP/1.1 505 ")
    assert {service.get("/").status for _ in range(50)} == {200}
    assert service.stop() == 0
