"""A private RabbitMQ node: start, stop, restart, kill, pause; it leaves no process behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_servers import PrivateRabbit

from nucleon.amqp import Settings
from nucleon.cli.loading import with_embedded
from nucleon.config import Config
from nucleon.embedded import RabbitServer, running_rabbitmq
from nucleon.embedded import rabbitmq_packages as packages
from nucleon.embedded.rabbitmq import free_low_ports
from nucleon.errors import SetupError
from nucleon.testing import eventually

HOUSE = str(Path(__file__).parents[2])


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nucleon-tests-"))
    yield folder
    shutil.rmtree(folder)


def greeted(port: int, patience_seconds: float = 5) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=patience_seconds) as client:
            client.sendall(b"AMQP\x00\x00\x09\x01")
            return client.recv(1) == b"\x01"
    except OSError:
        return False


def processes_with(text: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in words and process.name != str(os.getpid()):
            found.append(process.name)
    return found


def test_a_node_keeps_address_and_data_over_restarts_and_crashes(rabbitmq: PrivateRabbit) -> None:
    rabbitmq.start()
    url, before = rabbitmq.url, rabbitmq.pid
    rabbitmq.rabbitmqctl("add_vhost", "kept")
    rabbitmq.kill()
    assert not greeted(rabbitmq.port)
    with pytest.raises(SetupError, match="does not run"):
        rabbitmq.rabbitmqctl("list_vhosts")
    rabbitmq.start()
    assert (rabbitmq.url, rabbitmq.pid != before) == (url, True)
    assert "kept" in rabbitmq.rabbitmqctl("list_vhosts").split()
    with pytest.raises(SetupError, match="no_such_word"):
        rabbitmq.rabbitmqctl("no_such_word")


def test_a_paused_node_accepts_and_does_not_answer(rabbitmq: PrivateRabbit) -> None:
    rabbitmq.start()
    rabbitmq.pause()
    try:
        assert not greeted(rabbitmq.port, 0.2)
    finally:
        rabbitmq.resume()
    assert greeted(rabbitmq.port)


def test_every_test_has_a_virtual_host_of_its_own(amqp_url: str, rabbitmq: PrivateRabbit) -> None:
    vhost = amqp_url.rpartition("/")[2]
    assert vhost in rabbitmq.rabbitmqctl("list_vhosts").split()
    assert "nucleon" in rabbitmq.rabbitmqctl("list_permissions", "-p", vhost)


def test_a_stopped_node_leaves_no_process_and_the_next_has_its_address(folder: Path) -> None:
    server = RabbitServer(folder)
    try:
        server.start()
        assert running_rabbitmq(folder) == server.url
        assert processes_with(str(folder))
        server.stop()
        eventually(lambda: not processes_with(str(folder)), within_seconds=10)
        assert running_rabbitmq(folder) is None
        assert RabbitServer(folder).url == server.url
    finally:
        server.discard()


def test_the_command_says_the_url_and_stops_clean_on_interrupt(folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUCLEON_")}
    words = [sys.executable, "-u", "-m", "nucleon", "embedded", "rabbitmq"]
    environment["PYTHONPATH"] = HOUSE
    with subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        try:
            lines = [command.stdout.readline(), command.stdout.readline()]
            assert lines[1].startswith("export AMQP_URL=amqp://nucleon:")
            url = lines[1].split("=", 1)[1].strip()
            assert url == running_rabbitmq(folder / ".nucleon")
            found = with_embedded(Config("development", None, {"amqp": Settings()}, {}), folder, announce=False)
            assert found.sections["amqp"].url.reveal() == url  # by `nucleon dev` of the same project
        finally:
            command.send_signal(signal.SIGINT)
            _rest, errors = command.communicate(timeout=30)
    assert (command.returncode, "stopping RabbitMQ" in errors) == (0, True)
    eventually(lambda: not processes_with(str(folder)), within_seconds=10)


def test_a_killed_owner_takes_its_node_along(folder: Path) -> None:
    owner = f"""
import time
from pathlib import Path
from nucleon.embedded import RabbitServer
server = RabbitServer(Path({str(folder)!r}))
server.start()
print("runs", flush=True)
time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", owner], cwd=HOUSE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "runs\n"
        finally:
            process.kill()
    eventually(lambda: not [pid for pid in processes_with(str(folder)) if pid != str(process.pid)], within_seconds=20)


def test_a_machine_without_apt_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "INSTALLED", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"no apt-get here: install rabbitmq-server .* or set AMQP_URL"):
        packages.rabbitmq_programs(lambda _line: None, tmp_path / "cache")


def test_a_failed_download_says_what_apt_said_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "INSTALLED", ())
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "apt-cache", "dpkg-deb"):
        (programs / name).write_text("#!/bin/sh\necho 'the mirror is away' >&2\nexit 100\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    said: list[str] = []
    with pytest.raises(SetupError, match="the mirror is away"):
        packages.rabbitmq_programs(said.append, tmp_path / "caches" / "cache")
    assert [path.name for path in (tmp_path / "caches").iterdir()] == ["cache.lock"]
    assert len(said) == 1 and "35 MB" in said[0]


def test_ports_are_below_those_of_outgoing_connections() -> None:
    with socket.socket() as taken:
        first = free_low_ports(1)[0]
        taken.bind(("127.0.0.1", first))
        taken.listen()
        ports = free_low_ports(3, first=first)
    assert len(set(ports)) == 3 and first not in ports and max(ports) < 32_768
    assert free_low_ports(3, first=first)[0] == first
