"""Provoke PostgreSQL's faults and print what is seen: `python benchmarks/postgres_faults.py [--endurance SECONDS]`.

Pool size 4, 8 requests after each fault, as in the table of docs/postgres.md. Needs the `embedded` and `test` extras.
"""

# ruff: noqa: E402
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# http.py beside this one would hide the library's http
sys.path[:] = [str(HERE.parent / "tests" / "fixtures"), *(one for one in sys.path if Path(one).resolve() != HERE)]

from nucleon import green

green.patch()

import argparse
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from time import monotonic

import gevent
from private_servers import PrivatePostgres

from nucleon.errors import Problem
from nucleon.postgres import Postgres
from nucleon.testing import TcpProxy

SESSIONS = "select count(*) from pg_stat_activity where application_name = 'nucleon'"
SLEEPING = "select count(*) from pg_stat_activity where query like 'select pg_sleep(30)%' and state = 'active'"
KILL_ALL = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where application_name = 'nucleon'"
STATE = ("set search_path to nowhere", "set statement_timeout to 1234", "create temp table t (n int)", "select pg_advisory_lock(7)",
         "listen somewhere", "prepare p as select 1", "set role pg_monitor")  # fmt: skip
LEFT = (
    "select (current_setting('search_path') like 'nowhere%')::int + (current_setting('statement_timeout') <> '0')::int"
    " + (select count(*) from pg_class where relname = 't' and relpersistence = 't')"
    " + (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())"
    " + (select count(*) from pg_listening_channels()) + (select count(*) from pg_prepared_statements)"
    " + (current_user <> session_user)::int"
)


def failures(database: Postgres, times: int = 8) -> int:
    return sum(failed(lambda: database.value("select 1")) is not None for _ in range(times))


def failed(action: Callable[[], object]) -> Problem | None:
    try:
        action()
    except Problem as problem:
        return problem
    return None


def timed(action: Callable[[], object]) -> str:
    started = monotonic()
    problem = failed(action)
    return f"{type(problem).__name__ if problem else 'ok'} after {monotonic() - started:.2f} s"


def within(seconds: float, action: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with green.deadline(seconds):
            return action()

    return run


@contextmanager
def pool_on(dsn: str, **settings: object) -> Iterator[Postgres]:
    database = Postgres(dsn=dsn, **{"maximum": 4, **settings})
    database.start()
    try:
        gevent.joinall([gevent.spawn(database.execute, "select pg_sleep(0.05)") for _ in range(database.settings.maximum)])
        yield database
    finally:
        database.stop()


def killed_idle(server: PrivatePostgres) -> Iterator[tuple[str, str]]:
    with pool_on(server.dsn) as database:
        server.administer(KILL_ALL)
        yield "1 idle connections killed", f"{failures(database)}/8 fail"
        server.restart()
        yield "2 restart, pool idle", f"{failures(database)}/8 fail"
        running = gevent.spawn(timed, lambda: database.execute("select pg_sleep(30)"))
        gevent.sleep(0.5)
        server.administer(KILL_ALL)
        yield "4 killed in use, at 0.5 s", f"{running.get()}, next {failures(database)}/8 fail"


def crash_under_load(server: PrivatePostgres) -> Iterator[tuple[str, str]]:
    told: list[tuple[float, bool]] = []
    ended: list[bool] = []
    with pool_on(server.dsn) as database:

        def client() -> None:
            while not ended:
                begun = monotonic()
                told.append((begun, failed(lambda: database.execute("select pg_sleep(0.002)")) is None))
                gevent.sleep(0.002)

        clients = [gevent.spawn(client) for _ in range(32)]
        gevent.sleep(1)
        server.kill()
        gevent.sleep(0.3)
        server.start()
        up = monotonic()
        gevent.sleep(2)
        ended.append(True)
        gevent.joinall(clients)
    errors = [begun for begun, fine in told if not fine]
    after = sum(begun > up for begun in errors)
    yield "3 crash under load, 32 clients, 0.3 s down", f"{len(errors)} errors of {len(told)}, {after} begun after it was up"


def black_hole(server: PrivatePostgres) -> Iterator[tuple[str, str]]:
    with TcpProxy(server.address) as proxy:
        dsn = f"host=127.0.0.1 port={proxy.port} user=nucleon dbname=postgres"
        with pool_on(dsn, wait_seconds=2.0, cancel_grace_seconds=0.2) as database:
            gevent.spawn_later(0.2, proxy.blackhole)
            yield "5 black hole in a query, deadline 1 s", timed(within(1, lambda: database.execute("select pg_sleep(30)")))
            gevent.sleep(0.6)
            yield "6 black hole at checkout, wait 2 s", timed(lambda: database.value("select 1"))
            proxy.pass_through()
            gevent.sleep(0.5)
            yield "6 afterwards", f"{failures(database)}/8 fail"


def deadlines_and_kills(server: PrivatePostgres) -> Iterator[tuple[str, str]]:
    with pool_on(server.dsn) as database:
        seen = timed(within(1, lambda: database.execute("select pg_sleep(30)")))
        yield "7 deadline 1 s on a slow query", f"{seen}, {server.administer(SLEEPING)[0][0]} left running"
        running = gevent.spawn(database.execute, "select pg_sleep(30)")
        gevent.sleep(0.2)
        running.kill()
        wrong = sum(database.value("select 'B'") != "B" for _ in range(8))
        gevent.sleep(0.1)
        left = server.administer(SLEEPING)[0][0]
        yield "8 greenlet killed in a query", f"{wrong}/8 wrong, {left} left running, {database.pool.in_use} lent"
        database.execute("create table rows (n int)")

        def insert() -> None:
            with database.transaction():
                database.execute("insert into rows values (1)")
                gevent.sleep(30)

        running = gevent.spawn(insert)
        gevent.sleep(0.2)
        running.kill()
        idle = server.administer("select count(*) from pg_stat_activity where state like 'idle in%'")[0][0]
        yield "9 killed in a transaction", f"{database.value('select count(*) from rows')} rows, {idle} idle in transaction"


def exhaustion_and_state(server: PrivatePostgres) -> Iterator[tuple[str, str]]:
    with pool_on(server.dsn, wait_seconds=2.0) as database:
        workers = [gevent.spawn(timed, lambda: database.execute("select pg_sleep(0.3)")) for _ in range(40)]
        gevent.joinall(workers)
        ends = [worker.value for worker in workers]
        late = sorted({end for end in ends if not end.startswith("ok")})
        served = f"{40 - len([end for end in ends if end in late])} served"
        rest = f"the rest {late[0]} to {late[-1].split()[-2]} s"
        yield "10 40 greenlets x 0.3 s, wait 2 s", f"{served}, {rest}, {database.pool.size} sessions"
    with pool_on(server.dsn, maximum=1) as database:
        left = 0
        for statement in STATE:
            database.execute(statement)
            left += database.value(LEFT)
        yield "11 session state", f"{left}/7 leak, {database.pool.created} connection"


def fork(server: PrivatePostgres) -> Iterator[tuple[str, str]]:
    with pool_on(server.dsn) as database:
        child = os.fork()
        if child == 0:
            os._exit(failures(database, 60))
        bad = failures(database, 60)
        yield "12 fork with a warm pool, 60 queries each", f"{bad} / {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])} bad"


def failover(server: PrivatePostgres) -> Iterator[tuple[str, str]]:
    server.administer("create table written (n int)")
    standby = PrivatePostgres.standby_of(server)
    standby.start()
    try:
        hosts = f"host={server.sockets},{standby.sockets} port=5432 user=nucleon dbname=postgres target_session_attrs=read-write"
        with pool_on(hosts) as database:
            server.kill()
            stopped = [gevent.spawn(timed, within(3, lambda: database.execute("insert into written values (1)"))) for _ in range(4)]
            gevent.joinall(stopped)
            standby.promote()
            started = monotonic()
            while failed(within(1, lambda: database.execute("insert into written values (2)"))):
                gevent.sleep(0.01)
            yield "13 promotion after 3 s of outage", f"first write {monotonic() - started:.2f} s after it"
    finally:
        standby.close()
        server.start()


def frozen(server: PrivatePostgres) -> Iterator[tuple[str, str]]:
    with pool_on(server.dsn, maximum=1, connect_seconds=1.0, wait_seconds=2.0) as database:
        pid = database.value("select pg_backend_pid()")
        os.kill(pid, signal.SIGSTOP)
        yield "14 SIGSTOP of the backend, deadline 1 s", timed(within(1, lambda: database.value("select 1")))
        os.kill(pid, signal.SIGCONT)
        database.pool.evict("test")
        os.kill(server.pid, signal.SIGSTOP)
        yield "14 SIGSTOP of the postmaster, connect 1 s, wait 2 s", timed(lambda: database.value("select 1"))
        os.kill(server.pid, signal.SIGCONT)


def storm(server: PrivatePostgres) -> Iterator[tuple[str, str]]:
    server.administer("create database shut")
    server.administer("alter database shut allow_connections false")
    before = server.log.read_text().count("connection received")
    database = Postgres(dsn=server.dsn_of("shut"), maximum=50, wait_seconds=5.0)
    database.start()
    ends = [gevent.spawn(timed, lambda: database.value("select 1")) for _ in range(500)]
    gevent.joinall(ends)
    tries = server.log.read_text().count("connection received") - before
    at_once = timed(lambda: database.value("select 1"))
    yield "17 500 takers of a database that refuses", f"{tries} connects, all told by {max(end.value for end in ends)}; then {at_once}"
    database.stop()


def endurance(server: PrivatePostgres, seconds: float) -> Iterator[tuple[str, str]]:
    server.administer("create table kept (n bigint primary key)")
    numbers, told, ends = count(), [0, 0], monotonic() + seconds
    with pool_on(server.dsn, maximum=10, wait_seconds=30.0) as database:

        def work() -> None:
            while monotonic() < ends:
                number = next(numbers)
                problem = failed(partial(database.execute, "insert into kept values (%s)", number))
                told[problem is not None] += 1

        gevent.joinall([gevent.spawn(work) for _ in range(1000)])
        kept, sessions = server.administer("select count(*) from kept")[0][0], server.administer(SESSIONS)[0][0]
        told_text = f"{told[0]} inserted, {kept} kept, {told[1]} refused, {sessions} sessions, {database.pool.in_use} lent"
        yield f"1,000 greenlets on 10 connections, {seconds:.0f} s", told_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endurance", type=float, default=0.0, metavar="SECONDS")
    options = parser.parse_args()
    logging.getLogger("nucleon").setLevel(logging.ERROR)
    server = PrivatePostgres(log_connections="receipt")
    server.start()
    try:
        if options.endurance:
            parts: list[Iterator[tuple[str, str]]] = [endurance(server, options.endurance)]
        else:
            steps = (killed_idle, crash_under_load, black_hole, deadlines_and_kills, exhaustion_and_state, fork, frozen, storm, failover)
            parts = [step(server) for step in steps]
        for part in parts:
            for fault, seen in part:
                print(f"| {fault} | {seen} |", flush=True)
    finally:
        server.close()


if __name__ == "__main__":
    main()
