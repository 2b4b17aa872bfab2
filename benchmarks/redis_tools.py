"""What the tools over Redis cost a request, beside the plain JSON route of the same service: CPU of the server's process for each answer.

    python benchmarks/redis_tools.py [--seconds 3] [--redis URL]      # without URL: a Valkey of its own, from the wheel

Needs wrk. The routes are measured in turns, several rounds, and the median counts: the machine may be busy. No figure is a test.
"""

import sys

sys.path.pop(0)  # this folder, whose http.py would stand in for the standard library's

import argparse
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from nucleon.embedded import ValkeyServer

HERE = Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")
ROUTES = (
    "/json", "/get", "/get-tracked", "/kept", "/kept-local", "/kept-tracked", "/typed", "/typed-tracked", "/limited", "/session"
)  # fmt: skip


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measured(pid: int, url: str, seconds: int, connections: int) -> tuple[float, float]:
    """Return CPU microseconds for each answer, and answers a second."""
    before = cpu_seconds(pid)
    ran = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url], capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in ran:
        raise SystemExit(ran)
    found = re.search(r"(\d+) requests in", ran)
    assert found is not None, ran
    return (cpu_seconds(pid) - before) / int(found[1]) * 1e6, int(found[1]) / seconds


def run(redis_url: str, arguments: argparse.Namespace) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, str(HERE / "apps" / "tools.py"), str(port), redis_url])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        results: dict[str, list[tuple[float, float]]] = {route: [] for route in ROUTES}
        for _ in range(arguments.rounds):
            for route in ROUTES:
                results[route].append(measured(server.pid, f"http://127.0.0.1:{port}{route}", arguments.seconds, arguments.connections))
    finally:
        server.kill()
        server.wait()
    plain = median(cpu for cpu, _ in results["/json"])
    print(f"{'route':15} {'CPU us':>7} {'x plain':>8} {'req/s':>8}")
    for route, rounds in results.items():
        cpu = median(one for one, _ in rounds)
        print(f"{route:15} {cpu:7.1f} {cpu / plain:8.2f} {median(rate for _, rate in rounds):8.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--redis", default="")
    arguments = parser.parse_args()
    if arguments.redis:
        run(arguments.redis, arguments)
        return
    folder = Path(tempfile.mkdtemp(prefix="nucleon-benchmark-"))
    folder.chmod(0o755)
    valkey = ValkeyServer(folder, options={"appendonly": "no", "save": ""})
    try:
        valkey.start()
        run(valkey.url, arguments)
    finally:
        valkey.discard()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
