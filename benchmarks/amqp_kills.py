"""Kill a private RabbitMQ under confirming publishers and count what is lost: `python benchmarks/amqp_kills.py [--rounds 10]`.

In each round 4 (or 8) greenlets put numbered messages into a durable classic queue and a quorum queue, half of them into each; the node
gets SIGKILL in the middle and is started again; the publishers go on for a moment; then both queues are read to their end. Confirmed: `put`
returned. Unknown: it raised `OutcomeUnknown`, the message may be there or not. Lost: confirmed, and not in the queue. Ends with status 1
when anything is lost. Needs the `embedded` extra.
"""

# ruff: noqa: E402
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# http.py beside this one would hide the library's http
sys.path[:] = [str(HERE.parent), str(HERE.parent / "tests" / "fixtures"), *(one for one in sys.path if Path(one).resolve() != HERE)]

from nucleon import green

green.patch()

import argparse
import logging
import random
from dataclasses import dataclass
from queue import Empty
from time import monotonic

import gevent
from private_servers import PrivateRabbit

from nucleon.amqp import Amqp, ConnectionLost, OutcomeUnknown, Queue

KINDS = ("classic", "quorum")
QUIET_SECONDS = 1.0  # a queue that gives nothing for so long has been read to its end


@dataclass
class Count:
    """What became of the messages of one kind of queue. refused: `put` raised `ConnectionLost`, nothing was sent."""

    confirmed: int = 0
    lost: int = 0
    unknown: int = 0
    refused: int = 0
    twice: int = 0

    def add(self, other: "Count") -> None:
        self.confirmed += other.confirmed
        self.lost += other.lost
        self.unknown += other.unknown
        self.refused += other.refused
        self.twice += other.twice


class Publisher:
    """A greenlet that puts one numbered message after the other until it is told to end."""

    def __init__(self, target: Queue, number: int) -> None:
        self.confirmed: list[bytes] = []
        self.unknown = self.refused = 0
        self.last_at = 0.0
        self.is_over = False
        self._target, self._number = target, number
        self.greenlet = green.spawn(self._publish)

    def _publish(self) -> None:
        number = 0
        while not self.is_over:
            body = b"%d.%d" % (self._number, number)
            number += 1
            try:
                self._target.put(body, timeout=30)
            except OutcomeUnknown:
                self.unknown += 1
            except ConnectionLost:
                self.refused += 1
            else:
                self.confirmed.append(body)
                self.last_at = monotonic()


def one_round(server: PrivateRabbit, workers: int) -> tuple[dict[str, Count], float]:
    """Kill the node once; return the counts by kind of queue, and the seconds from its return until each publisher had a confirm again."""
    with Amqp(url=server.url, wait_seconds=30.0, retry_minimum_seconds=0.05, retry_maximum_seconds=0.5) as broker:
        queues = {kind: broker.queue(f"kills.{kind}", kind=kind) for kind in KINDS}
        for queue in queues.values():
            queue.declare()
            queue.purge()
        server.sync()
        crew = {kind: [Publisher(queue, number) for number in range(workers // 2)] for kind, queue in queues.items()}
        everyone = [one for ones in crew.values() for one in ones]
        gevent.sleep(random.uniform(0.5, 1.5))
        server.kill()
        gevent.spawn(server.start).get()
        up = monotonic()
        while any(one.last_at < up for one in everyone) and monotonic() < up + 60:
            gevent.sleep(0.02)
        back_after = monotonic() - up
        gevent.sleep(0.3)
        for one in everyone:
            one.is_over = True
        gevent.joinall([one.greenlet for one in everyone], raise_error=True)
        return {kind: counted(queues[kind], ones) for kind, ones in crew.items()}, back_after


def counted(queue: Queue, ones: list[Publisher]) -> Count:
    """Read the queue to its end and compare it with what its publishers know."""
    seen: list[bytes] = []
    while True:
        try:
            with queue.get(QUIET_SECONDS) as message:
                seen.append(message.body)
        except Empty:
            break
    confirmed = {body for one in ones for body in one.confirmed}
    unknown, refused = sum(one.unknown for one in ones), sum(one.refused for one in ones)
    return Count(len(confirmed), len(confirmed - set(seen)), unknown, refused, len(seen) - len(set(seen)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--publishers", type=int, nargs="*", default=[4, 8])
    options = parser.parse_args()
    logging.getLogger("nucleon").setLevel(logging.CRITICAL)
    server = PrivateRabbit()
    lost = 0
    try:
        server.start()
        print("| publishers | queue | rounds | confirmed | lost | unknown | refused | read twice | all publish again after, at most |")
        print("|---|---|---|---|---|---|---|---|---|", flush=True)
        for publishers in options.publishers:
            totals, slowest = {kind: Count() for kind in KINDS}, 0.0
            for _ in range(options.rounds):
                counts, back_after = one_round(server, publishers)
                slowest = max(slowest, back_after)
                for kind, count in counts.items():
                    totals[kind].add(count)
            for kind, one in totals.items():
                figures = f"{one.confirmed:,} | {one.lost} | {one.unknown} | {one.refused} | {one.twice}"
                print(f"| {publishers} | {kind} | {options.rounds} | {figures} | {slowest:.1f} s |", flush=True)
                lost += one.lost
    finally:
        server.close()
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
