"""Our AMQP client beside others, all against one RabbitMQ, in one run: one table.

    python benchmarks/amqp.py --peers-python bench/bin/python [--rounds 3] [--seconds 0.5] [--amqp URL] [--only nucleon]

Without --amqp a private node is started for the run (see `nucleon embedded rabbitmq`). Rounds are interleaved: every client does every
scenario once, then again; the table has the medians. Each cell is messages a second, and the client's own CPU (user and system) in
microseconds for a message, which depends less on what else the machine does. No figure is a test.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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
FILL = 30_000
Cell = tuple[str, str, int]


@contextmanager
def server(url: str) -> Iterator[str]:
    """Give the URL named, or that of a private node that ends with the block."""
    if url:
        yield url
        return
    from nucleon.embedded import RabbitServer

    with tempfile.TemporaryDirectory() as folder:
        node = RabbitServer(Path(folder), schedulers=None, say=print)
        node.start()
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
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment, timeout=120)
    if done.returncode or not done.stdout.strip():
        print(f"{name}, {scenario}, {size} B failed: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1]) or None


def fill(url: str, size: int) -> None:
    """Put FILL messages into the queue "bench", which is emptied first."""
    words = [sys.executable, "-c", _FILL, url, str(size), str(FILL)]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(HERE.parent)})


_FILL = """
from nucleon import green; green.patch()
import sys
from nucleon.amqp import Amqp
url, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Amqp(url=url) as broker:
    queue = broker.queue("bench")
    queue.purge()
    queue.put_many([b"x" * size] * count)
"""


def shown(results: dict[Cell, list[dict[str, float]]], names: list[str]) -> str:
    """Return the table in Markdown."""
    lines = ["| scenario | B | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for scenario, title in SCENARIOS.items():
        for size in SIZES:
            cells = []
            for name in names:
                found = results.get((name, scenario, size))
                if not found:
                    cells.append("n/a")
                    continue
                rate = statistics.median(one["messages"] / one["seconds"] for one in found)
                cpu = statistics.median(one["cpu"] / one["messages"] * 1e6 for one in found)
                cells.append(f"{rate:,.0f} ({cpu:.1f} us)")
            lines.append(f"| {title} | {size} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--amqp", default="")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    names = [name for name in CLIENTS if not options.only or name in options.only.split(",")]
    results: dict[Cell, list[dict[str, float]]] = {}
    with server(options.amqp) as url:
        for _ in range(options.rounds):
            for scenario in SCENARIOS:
                for size in SIZES:
                    for name in names:
                        if scenario.startswith("consume"):
                            fill(url, size)
                        found = run(name, scenario, url, size, options)
                        if found is not None and found["messages"]:
                            results.setdefault((name, scenario, size), []).append(found)
    print(shown(results, names))


if __name__ == "__main__":
    main()
