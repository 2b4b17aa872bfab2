"""Many requests at once, a service told to stop, a worker that dies."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from gevent import socket as green_socket
from service_fixtures import make_tables

from nucleon import green
from nucleon.testing import LiveServer, eventually

Serve = Callable[..., LiveServer]


def test_three_hundred_requests_share_ten_connections(serve: Serve, fresh_postgres_dsn: str) -> None:
    make_tables(fresh_postgres_dsn)
    service = serve("miniature:app", "--workers", "1", dsn=fresh_postgres_dsn, NUCLEON_TEST_POSTGRES__MAXIMUM="10")
    requests = [green.spawn(lambda: service.get("/hold").status) for _ in range(300)]
    assert Counter(request.get(timeout=60) for request in requests) == {200: 300}


def test_requests_that_run_at_sigterm_finish_and_the_service_exits_with_0(miniature: LiveServer) -> None:
    requests = [green.spawn(lambda: miniature.get("/slow/1.0")) for _ in range(5)]
    pid = miniature.get("/pid").json()["pid"]
    eventually(lambda: established_to(miniature.port, pid) >= 5)
    miniature.signal(signal.SIGTERM)
    answers = [request.get(timeout=30) for request in requests]
    assert [(answer.status, answer.json()) for answer in answers] == [(200, {"slept": 1.0})] * 5
    assert miniature.wait() == 0


def test_who_comes_while_the_service_stops_is_refused_at_once(serve: Serve, fresh_postgres_dsn: str) -> None:
    service = serve("miniature:app", "--workers", "2", dsn=fresh_postgres_dsn)
    request = green.spawn(lambda: service.get("/slow/5.0").status)
    eventually(lambda: sum(established_to(service.port, pid) for pid in service.worker_pids()))
    service.signal(signal.SIGTERM)

    def is_refused() -> bool:
        try:
            green_socket.create_connection(service.address, timeout=5).close()
        except ConnectionRefusedError:
            return True
        return False

    eventually(is_refused)
    assert not request.ready()
    assert request.get(timeout=30) == 200
    assert service.wait() == 0


def test_a_worker_that_was_killed_is_replaced(miniature: LiveServer) -> None:
    before = miniature.get("/pid").json()["pid"]
    assert miniature.worker_pids() == [before]
    os.kill(before, signal.SIGKILL)

    def another() -> int | None:
        with suppress(OSError):
            answer = miniature.get("/pid")
            return answer.json()["pid"] if answer.status == 200 else None
        return None

    assert eventually(another, within_seconds=20) != before
    assert miniature.stop() == 0


def test_workers_go_when_their_master_is_killed(miniature: LiveServer) -> None:
    workers = miniature.worker_pids()
    assert workers
    miniature.kill()
    eventually(lambda: not any(is_alive(pid) for pid in workers))


def test_two_workers_share_one_socket(serve: Serve, fresh_postgres_dsn: str) -> None:
    service = serve("miniature:app", "--workers", "2", dsn=fresh_postgres_dsn)
    eventually(lambda: len(service.worker_pids()) == 2)
    assert {service.get("/pid").json()["pid"] for _ in range(5)} <= set(service.worker_pids())
    assert service.stop() == 0


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def established_to(port: int, pid: int) -> int:
    """Count the connections that the server process `pid` holds on `port` (proc(5), /proc/pid/net/tcp)."""
    ours = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            ours.add(os.readlink(entry.path))
    with open(f"/proc/{pid}/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" and f"socket:[{row[9]}]" in ours for row in rows)
