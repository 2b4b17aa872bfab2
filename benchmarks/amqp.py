"""Our AMQP client beside others, all against one RabbitMQ, in one run: one table.

    python benchmarks/amqp.py --peers-python bench/bin/python [--rounds 3] [--seconds 1] [--amqp URL] [--only nucleon] [--scenarios each50]

Without --amqp a private node is started for the run (see `nucleon embedded rabbitmq`), alone on the last core, with one scheduler; the
client runs alone on the first. Rounds are interleaved: every client does every scenario once, then again; the tables have the medians
and, behind them, what is ours of pika's gevent adapter. A cell is messages a second, and the client's own CPU (user and system) in
microseconds for a message, which depends less on what else the machine does. Before each slice that consumes, the queue is filled up with
more messages than fit into it, so that nobody waits for one; connecting and the first messages are not counted. No figure is a test.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
# http.py beside this one would hide the library's http
sys.path[:] = [str(HERE.parent), *(one for one in sys.path if Path(one).resolve() != HERE)]
CLIENTS = {  # name in the table: name in apps/amqp_clients.py, module that has to be there
    "nucleon": ("nucleon", "gevent"),
    "pika gevent": ("pika_gevent", "pika"),
    "pika blocking": ("pika_blocking", "pika"),
    "py-amqp": ("py_amqp", "amqp"),
    "kombu": ("kombu", "kombu"),
    "amqpstorm": ("amqpstorm", "amqpstorm"),
    "aio-pika": ("aio_pika", "aio_pika"),
}
SCENARIOS = {
    "publish": "publish, no confirm",
    "pipelined": "confirms pipelined, window 100",
    "each": "confirm each, 1 greenlet",
    "each50": "confirm each, 50 greenlets",
    "consume100": "consume and ack, prefetch 100",
    "consume1000": "consume and ack, prefetch 1000",
    "round_trip": "publish, deliver, ack",
}
SIZES = (64, 1024)
FILL_PER_SECOND = 120_000  # more than any client has taken in a second
FIRST_CORE, LAST_CORE = 0, (os.cpu_count() or 1) - 1
ANCHOR = "pika gevent"
Cell = tuple[str, str, int]
Slices = list[dict[str, float]]


@contextmanager
def server(url: str) -> Iterator[str]:
    """Give the URL named, or that of a private node that ends with the block."""
    if url:
        yield url
        return
    from nucleon.embedded import RabbitServer

    with tempfile.TemporaryDirectory() as folder:
        node = RabbitServer(Path(folder), schedulers=1, say=print)
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {LAST_CORE})  # the node inherits it
        try:
            node.start()
        finally:
            os.sched_setaffinity(0, everywhere)
        try:
            yield node.url
        finally:
            node.discard()


def run(name: str, scenario: str, url: str, size: int, options: argparse.Namespace) -> dict[str, float] | None:
    """Measure one cell in a process of its own. None: it is not installed, or has no such thing."""
    client, module = CLIENTS[name]
    python = sys.executable if client == "nucleon" else options.peers_python
    has_it = subprocess.run([python, "-c", f"import {module}"], check=False, capture_output=True).returncode == 0
    if not has_it:
        return None
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)} if client == "nucleon" else dict(os.environ)
    program = "amqp_asyncio.py" if client == "aio_pika" else "amqp_clients.py"
    words = [python, str(HERE / "apps" / program), client, scenario, url, str(size), str(options.seconds)]
    command = ["taskset", "-c", str(FIRST_CORE), *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=120)
    if done.returncode or not done.stdout.strip():
        print(f"{name}, {scenario}, {size} B failed: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1]) or None


def fill(url: str, size: int, count: int) -> None:
    """Let the queue of this size have `count` messages: what the last client left stays."""
    words = [sys.executable, "-c", _FILL, url, str(size), str(count)]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(HERE.parent)})


_FILL = """
from nucleon import green; green.patch()
import sys
from nucleon.amqp import Amqp
url, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Amqp(url=url) as broker:
    queue = broker.queue(f"bench{size}")
    before = queue.declare().message_count
    queue.put_many((b"x" * size for _ in range(count - before)), delivery_mode=1)
    while queue.declare().message_count < count:  # what the last client held may be on its way back
        green.sleep(0.05)
"""


def shown(results: dict[Cell, list[dict[str, float]]], names: list[str]) -> str:
    """Return the tables in Markdown: rates and CPU, what is ours of pika's, and the longest stalls of the loop."""
    rates = table(results, names, f"of {ANCHOR}, rate and CPU", lambda found: f"{rate(found):,.0f} ({cpu(found):.1f} us)", share)
    on_gevent = [name for name in names if name != "aio-pika"]
    stalls = table(results, on_gevent, "", lambda found: f"{median(found, 'stall') * 1000:.1f} ms", lambda _ours, _anchor: "")
    return f"{rates}\n\nThe most CPU time between two turns of the event loop:\n\n{stalls}"


def table(
    results: dict[Cell, list[dict[str, float]]],
    names: list[str],
    last: str,
    cell: Callable[[Slices], str],
    beside: Callable[[Slices, Slices], str],
) -> str:
    """Return one table, with a last column that sets us beside the anchor."""
    heads = ["scenario", "B", *names, *([last] if last else [])]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for scenario, title in SCENARIOS.items():
        for size in sorted({size for _, done, size in results if done == scenario}):
            found = [results.get((name, scenario, size)) for name in names]
            cells = [cell(one) if one else "n/a" for one in found]
            ours, anchor = (results.get((name, scenario, size)) for name in ("nucleon", ANCHOR))
            compared = [beside(ours, anchor) if ours and anchor else ""] if last else []
            lines.append("| " + " | ".join([title, str(size), *cells, *compared]) + " |")
    return "\n".join(lines)


def share(ours: Slices, anchor: Slices) -> str:
    return f"{rate(ours) / rate(anchor):.2f} x, {cpu(ours) / cpu(anchor):.2f} x"


def rate(found: Slices) -> float:
    return statistics.median(one["messages"] / one["seconds"] for one in found)


def cpu(found: Slices) -> float:
    return statistics.median(one["cpu"] / one["messages"] * 1e6 for one in found)


def median(found: Slices, name: str) -> float:
    return statistics.median(one[name] for one in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--amqp", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--scenarios", default="")
    parser.add_argument("--sizes", default=",".join(str(size) for size in SIZES))
    options = parser.parse_args()
    names = [name for name in CLIENTS if not options.only or name in options.only.split(",")]
    scenarios = [name for name in SCENARIOS if not options.scenarios or name in options.scenarios.split(",")]
    sizes = [int(size) for size in options.sizes.split(",")]
    results: dict[Cell, list[dict[str, float]]] = {}
    with server(options.amqp) as url:
        for turn in range(options.rounds):
            for scenario in scenarios:
                for size in sizes:
                    for name in names[turn % len(names) :] + names[: turn % len(names)]:  # nobody is always the one behind the filling
                        if scenario.startswith("consume"):
                            fill(url, size, round(FILL_PER_SECOND * options.seconds))
                        found = run(name, scenario, url, size, options)
                        if found is not None and found["messages"]:
                            results.setdefault((name, scenario, size), []).append(found)
    print(shown(results, names))


if __name__ == "__main__":
    main()
