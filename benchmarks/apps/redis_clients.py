"""One client of Redis measured by itself: `redis_clients.py CLIENT URL COMMANDS GREENLETS...`; prints a JSON line for each figure."""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

SMALL, LARGE = b"x" * 64, b"x" * 4096
FIELDS = {f"field {n}": f"value {n}" for n in range(50)}
LOADS: dict[str, Callable[[Any], Any]] = {
    "GET 64 B": lambda client: client.get("small"),
    "SET 64 B": lambda client: client.set("other small", SMALL),
    "GET 4 KB": lambda client: client.get("large"),
    "SET 4 KB": lambda client: client.set("other large", LARGE),
    "HGETALL 50": lambda client: client.hgetall("hash"),
}
SLICES = 5


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Slices:
    """The best of several runs: what the machine does besides hits some of them."""

    def __init__(self, commands: int) -> None:
        self.commands = commands
        self.cpu = self.seconds = float("inf")

    def __iter__(self) -> Iterator[int]:
        for number in range(SLICES):
            began, cpu = time.monotonic(), cpu_seconds()
            yield number
            self.cpu, self.seconds = min(self.cpu, cpu_seconds() - cpu), min(self.seconds, time.monotonic() - began)

    def tell(self, load: str, at_once: int) -> None:
        figures = {"load": load, "at_once": at_once, "cpu": self.cpu / self.commands * 1e6, "rate": self.commands / self.seconds}
        sys.stdout.write(json.dumps(figures) + "\n")
        sys.stdout.flush()


def on_greenlets(client: Any, commands: int, numbers: list[int]) -> None:
    import gevent

    def work(ask: Callable[[Any], Any], times: int) -> None:
        for _ in range(times):
            ask(client)

    for load, ask in LOADS.items():
        for at_once in numbers:
            each = max(1, commands // SLICES // at_once)
            slices = Slices(each * at_once)
            for _ in slices:
                gevent.joinall([gevent.spawn(work, ask, each) for _ in range(at_once)], raise_error=True)
            slices.tell(load, at_once)


def on_tasks(connect: Callable[[], Awaitable[Any]], commands: int, numbers: list[int]) -> None:
    async def work(client: Any, ask: Callable[[Any], Any], times: int) -> None:
        for _ in range(times):
            await ask(client)

    async def run() -> None:
        client = await connect()
        for load, ask in LOADS.items():
            for at_once in numbers:
                each = max(1, commands // SLICES // at_once)
                slices = Slices(each * at_once)
                for _ in slices:
                    await asyncio.gather(*(work(client, ask, each) for _ in range(at_once)))
                slices.tell(load, at_once)

    import uvloop

    uvloop.run(run())


def nucleon(url: str, commands: int, numbers: list[int]) -> None:
    from nucleon import green

    green.patch()
    from nucleon.redis import Redis
    from nucleon.secret import Secret

    client = Redis(url=Secret(url))
    client.mset({"small": SMALL, "large": LARGE})
    client.hset("hash", mapping=FIELDS)
    on_greenlets(client, commands, numbers)
    client.stop()


def redis_py(url: str, commands: int, numbers: list[int]) -> None:
    from gevent import monkey

    monkey.patch_all()
    import redis

    pool = redis.BlockingConnectionPool.from_url(url, max_connections=64, timeout=60, protocol=2)
    on_greenlets(redis.Redis(connection_pool=pool), commands, numbers)


def redis_asyncio(url: str, commands: int, numbers: list[int]) -> None:
    from redis import asyncio as redis

    async def connect() -> Any:
        pool = redis.BlockingConnectionPool.from_url(url, max_connections=64, timeout=60, protocol=2)
        return redis.Redis(connection_pool=pool)

    on_tasks(connect, commands, numbers)


def coredis(url: str, commands: int, numbers: list[int]) -> None:
    import coredis as library

    async def connect() -> Any:
        client = library.Redis.from_url(url)
        await client.__aenter__()
        return client

    on_tasks(connect, commands, numbers)


def glide(url: str, commands: int, numbers: list[int]) -> None:
    from urllib.parse import urlsplit

    from glide import GlideClient, GlideClientConfiguration, NodeAddress

    async def connect() -> Any:
        place = urlsplit(url)
        return await GlideClient.create(GlideClientConfiguration([NodeAddress(place.hostname, place.port)], request_timeout=10_000))

    on_tasks(connect, commands, numbers)


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]), [int(number) for number in sys.argv[4:]])
