"""One PostgreSQL client under load: `python postgres_clients.py CLIENT DSN SECONDS` prints its figures as JSON.

Every client does four things: read one row by its key with 16 at a time, the same 20 times in a row for one caller, one row into a value,
and 100 rows into values. CPU is the time of this process.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ONE = "select id, name, price, made from bench_items where id = %s"
HUNDRED = "select id, name, price, made from bench_items where id between %s and %s order by id"
ASYNCPG_ONE = ONE.replace("%s", "$1")
ASYNCPG_HUNDRED = HUNDRED.replace("%s", "$1", 1).replace("%s", "$2", 1)
CALLERS = 16
ROUNDS = 5


@dataclass(slots=True)
class Item:
    id: int
    name: str
    price: float
    made: Any


def figures(runs: int, cpu: float, wall: float) -> dict[str, float]:
    return {"cpu_us": cpu / runs * 1e6, "per_second": runs / wall}


def best(rounds: list[dict[str, float]]) -> dict[str, float]:
    return min(rounds, key=lambda each: each["cpu_us"])


def slices(seconds: float, work: Callable[[float], int]) -> dict[str, float]:
    """Run `work(until)` for several slices of time; the one with the least CPU per run was disturbed least."""
    work(time.monotonic() + seconds / ROUNDS)
    rounds = []
    for _ in range(ROUNDS):
        cpu, wall = time.process_time(), time.monotonic()
        runs = work(wall + seconds / ROUNDS)
        rounds.append(figures(runs, time.process_time() - cpu, time.monotonic() - wall))
    return best(rounds)


def measured(seconds: float, one: Callable[[int], Any], hundred: Callable[[int], Any], spawn: Any) -> dict[str, Any]:
    """Measure a synchronous client. spawn: starts a function concurrently and joins all, None: there is no concurrency."""

    def repeated(action: Callable[[int], Any], until: float) -> int:
        runs = 0
        while time.monotonic() < until:
            for key in range(20):
                action(key * 31 % 800 + 1)
            runs += 20
        return runs

    found: dict[str, Any] = {}
    if spawn is not None:
        found["one row, 16 at a time"] = slices(seconds, lambda until: sum(spawn(CALLERS, lambda: repeated(one, until))))
    found["20 in a row"] = slices(seconds, lambda until: repeated(one, until))
    found["100 rows"] = slices(seconds, lambda until: repeated(hundred, until))
    return found


def green_spawn(times: int, function: Callable[[], int]) -> list[int]:
    import gevent

    running = [gevent.spawn(function) for _ in range(times)]
    gevent.joinall(running, raise_error=True)
    return [each.value for each in running]


def psycopg2_blocking(dsn: str, seconds: float) -> dict[str, Any]:
    import psycopg2

    return _psycopg2(psycopg2.connect(dsn), seconds, None)


def _psycopg2(connection: Any, seconds: float, spawn: Any) -> dict[str, Any]:
    connection.autocommit = True

    def one(key: int) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(ONE, (key,))
            return cursor.fetchone()

    def hundred(key: int) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(HUNDRED, (key, key + 99))
            return cursor.fetchall()

    return measured(seconds, one, hundred, spawn)


def psycopg2_green(dsn: str, seconds: float) -> dict[str, Any]:
    """psycopg2 with psycogreen's callback, a connection for each greenlet: no pool, no deadline, tuples."""
    from gevent import monkey

    monkey.patch_all()
    import gevent
    import psycopg2
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()
    connections: dict[Any, Any] = {}

    def connection() -> Any:
        me = gevent.getcurrent()
        if me not in connections:
            connections[me] = free.pop() if free else psycopg2.connect(dsn)
            connections[me].autocommit = True
        return connections[me]

    free: list[Any] = []

    def spawn(times: int, function: Callable[[], int]) -> list[int]:
        found = green_spawn(times, function)
        free.extend(connections.values())
        connections.clear()
        return found

    def one(key: int) -> Any:
        with connection().cursor() as cursor:
            cursor.execute(ONE, (key,))
            return cursor.fetchone()

    def hundred(key: int) -> Any:
        with connection().cursor() as cursor:
            cursor.execute(HUNDRED, (key, key + 99))
            return cursor.fetchall()

    return measured(seconds, one, hundred, spawn)


def nucleon(dsn: str, seconds: float) -> dict[str, Any]:
    """The whole path: pool, deadline, problems, models."""
    from nucleon import green

    green.patch()
    import datetime

    from nucleon.message import Model
    from nucleon.postgres import Postgres

    class Item(Model):
        id: int
        name: str
        price: float
        made: datetime.datetime

    db = Postgres(dsn=dsn, maximum=CALLERS)

    def one(key: int) -> Any:
        return db.one(Item, ONE, key)

    def hundred(key: int) -> Any:
        return db.all(Item, HUNDRED, key, key + 99)

    with green.deadline(600):
        return measured(seconds, one, hundred, _green_spawn_in_context)


def _green_spawn_in_context(times: int, function: Callable[[], int]) -> list[int]:
    from contextvars import copy_context

    contexts = [copy_context() for _ in range(times)]
    return green_spawn(times, lambda: contexts.pop().run(function))


def psycopg3_gevent(dsn: str, seconds: float) -> dict[str, Any]:
    from gevent import monkey

    monkey.patch_all()
    from psycopg.rows import class_row
    from psycopg_pool import ConnectionPool

    with ConnectionPool(dsn, min_size=CALLERS, max_size=CALLERS, kwargs={"autocommit": True}) as pool:

        def one(key: int) -> Any:
            with pool.connection() as connection, connection.cursor(row_factory=class_row(Item)) as cursor:
                return cursor.execute(ONE, (key,)).fetchone()

        def hundred(key: int) -> Any:
            with pool.connection() as connection, connection.cursor(row_factory=class_row(Item)) as cursor:
                return cursor.execute(HUNDRED, (key, key + 99)).fetchall()

        return measured(seconds, one, hundred, green_spawn)


def sqlalchemy_core(dsn: str, seconds: float) -> dict[str, Any]:
    from gevent import monkey

    monkey.patch_all()
    import psycopg2
    import sqlalchemy
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg2://", creator=lambda: psycopg2.connect(dsn), pool_size=CALLERS, isolation_level="AUTOCOMMIT"
    )
    one_text = sqlalchemy.text(ONE.replace("%s", ":key"))
    hundred_text = sqlalchemy.text(HUNDRED.replace("%s", ":first", 1).replace("%s", ":last", 1))

    def one(key: int) -> Any:
        with engine.connect() as connection:
            return connection.execute(one_text, {"key": key}).one()

    def hundred(key: int) -> Any:
        with engine.connect() as connection:
            return connection.execute(hundred_text, {"first": key, "last": key + 99}).all()

    return measured(seconds, one, hundred, green_spawn)


async def measured_async(seconds: float, one: Any, hundred: Any) -> dict[str, Any]:
    async def repeated(action: Any, until: float) -> int:
        runs = 0
        while time.monotonic() < until:
            for key in range(20):
                await action(key * 31 % 800 + 1)
            runs += 20
        return runs

    async def sliced(callers: int, action: Any) -> dict[str, float]:
        rounds = []
        for number in range(ROUNDS + 1):
            cpu, wall = time.process_time(), time.monotonic()
            runs = sum(await asyncio.gather(*(repeated(action, wall + seconds / ROUNDS) for _ in range(callers))))
            if number:
                rounds.append(figures(runs, time.process_time() - cpu, time.monotonic() - wall))
        return best(rounds)

    return {
        "one row, 16 at a time": await sliced(CALLERS, one),
        "20 in a row": await sliced(1, one),
        "100 rows": await sliced(1, hundred),
    }


def asyncpg_pool(dsn: str, seconds: float) -> dict[str, Any]:
    import asyncpg

    async def run() -> dict[str, Any]:
        parts = dict(part.split("=", 1) for part in dsn.split())
        async with asyncpg.create_pool(
            host=parts["host"], port=int(parts.get("port", 5432)), user=parts.get("user"), database=parts["dbname"],
            password=parts.get("password"), min_size=CALLERS, max_size=CALLERS,
        ) as pool:  # fmt: skip

            async def one(key: int) -> Any:
                return Item(**await pool.fetchrow(ASYNCPG_ONE, key))

            async def hundred(key: int) -> Any:
                return [Item(**row) for row in await pool.fetch(ASYNCPG_HUNDRED, key, key + 99)]

            return await measured_async(seconds, one, hundred)

    return asyncio.run(run())


def psycopg3_async(dsn: str, seconds: float) -> dict[str, Any]:
    from psycopg.rows import class_row
    from psycopg_pool import AsyncConnectionPool

    async def run() -> dict[str, Any]:
        async with AsyncConnectionPool(dsn, min_size=CALLERS, max_size=CALLERS, kwargs={"autocommit": True}) as pool:

            async def one(key: int) -> Any:
                async with pool.connection() as connection, connection.cursor(row_factory=class_row(Item)) as cursor:
                    return await (await cursor.execute(ONE, (key,))).fetchone()

            async def hundred(key: int) -> Any:
                async with pool.connection() as connection, connection.cursor(row_factory=class_row(Item)) as cursor:
                    return await (await cursor.execute(HUNDRED, (key, key + 99))).fetchall()

            return await measured_async(seconds, one, hundred)

    return asyncio.run(run())


CLIENTS = {
    "psycopg2_blocking": psycopg2_blocking,
    "psycopg2_green": psycopg2_green,
    "nucleon": nucleon,
    "psycopg3_gevent": psycopg3_gevent,
    "sqlalchemy_core": sqlalchemy_core,
    "asyncpg_pool": asyncpg_pool,
    "psycopg3_async": psycopg3_async,
}

if __name__ == "__main__":
    print(json.dumps(CLIENTS[sys.argv[1]](sys.argv[2], float(sys.argv[3]))))
