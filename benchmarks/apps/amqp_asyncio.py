"""aio-pika under the harness of amqp_clients.py: `python amqp_asyncio.py aio_pika SCENARIO URL BYTES SECONDS` prints JSON.

In a file of its own because asyncio runs unpatched here, with tasks in place of greenlets.
"""

import asyncio
import json
import resource
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import aio_pika

EXCHANGE = "amq.fanout"
WINDOW = 100
TASKS = 50
WARM_UP = 1000  # messages consumed before the clock starts
Step = Callable[[], Awaitable[object]]


async def repeated(step: Step, seconds: float) -> int:
    ends, count = perf_counter() + seconds, 0
    while perf_counter() < ends:
        for _ in range(10):
            await step()
        count += 10
    return count


async def pipelined(step: Step, seconds: float) -> int:
    ends, count = perf_counter() + seconds, 0
    while perf_counter() < ends:
        await asyncio.gather(*(step() for _ in range(WINDOW)))
        count += WINDOW
    return count


async def consumed(inbox: Any, seconds: float) -> int:
    ends, count = perf_counter() + seconds, 0
    async for message in inbox:
        await message.ack()
        count += 1
        if count % 20 == 0 and perf_counter() > ends:
            break
    return count


async def turns(channel: Any, body: bytes) -> Step:
    """Return the step of the round trip: publish to a queue, take the message from it, acknowledge."""
    queue = await channel.declare_queue(exclusive=True)
    inbox = aiter(queue.iterator())

    async def turn() -> None:
        await channel.default_exchange.publish(persistent(body), queue.name)
        await (await anext(inbox)).ack()

    await turn()
    return turn


def persistent(body: bytes) -> aio_pika.Message:
    return aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)


async def measured(scenario: str, url: str, body: bytes, seconds: float) -> dict[str, float]:
    connection = await aio_pika.connect_robust(url)
    channel = await connection.channel(publisher_confirms=scenario in ("pipelined", "each", "each50"))
    exchange = await channel.get_exchange(EXCHANGE)
    work: Callable[[], Awaitable[int]]

    async def publish() -> object:
        return await exchange.publish(persistent(body), "k")

    if scenario.startswith("consume"):
        await channel.set_qos(int(scenario.removeprefix("consume")))
        inbox = aiter((await channel.get_queue(f"bench{len(body)}")).iterator())
        for _ in range(WARM_UP):
            await (await anext(inbox)).ack()
        work = lambda: consumed(inbox, seconds)  # noqa: E731
    elif scenario == "round_trip":
        turn = await turns(channel, body)
        work = lambda: repeated(turn, seconds)  # noqa: E731
    elif scenario == "pipelined":
        work = lambda: pipelined(publish, seconds)  # noqa: E731
    elif scenario == "each50":
        work = lambda: at_once(publish, seconds)  # noqa: E731
    else:
        work = lambda: repeated(publish, seconds)  # noqa: E731
    before, begun = resource.getrusage(resource.RUSAGE_SELF), perf_counter()
    count = await work()
    if scenario == "publish":
        await channel.get_exchange(EXCHANGE, ensure=True)  # a question, answered behind everything sent
    took, after = perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    return {"messages": count, "seconds": took, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


async def at_once(step: Step, seconds: float) -> int:
    return sum(await asyncio.gather(*(repeated(step, seconds) for _ in range(TASKS))))


async def main() -> None:
    _, _name, scenario, url, size, seconds = sys.argv
    print(json.dumps(await measured(scenario, url, b"x" * int(size), float(seconds))), flush=True)
    import os

    os._exit(0)  # connections need no goodbye here


if __name__ == "__main__":
    asyncio.run(main())
