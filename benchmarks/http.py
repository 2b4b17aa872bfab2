"""Ours and the peers, one after another: the server on core 0, wrk on core 1, one table.

    python benchmarks/http.py --peers-python bench/bin/python [--seconds 5] [--postgres DSN] [--redis URL] [--only nucleon]
                               [--loads "row|queries|updates|fortunes"]

CPU is the time of the server's processes (user and system, from /proc) divided by the answers that wrk counted: on a busy machine it is
the figure to trust. A peer whose packages are missing is shown as "not installed". No figure is a test.
"""

import argparse
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import transfers
from serving import cpu_seconds, free_port, is_installed, rss_bytes, running

HERE = Path(__file__).resolve().parent
CONNECTIONS = 64
IDLE = 8000


@dataclass(frozen=True)
class Peer:
    """One server with one application. needs: modules that have to be there. loads: what it is measured with."""

    name: str
    command: list[str]
    needs: tuple[str, ...] = ()
    bare: bool = False
    database: bool = False
    ours: bool = False


WEB = ["--host", "127.0.0.1", "--port", "PORT"]
GRANIAN = ["-m", "granian", *WEB, "--workers", "1", "--no-ws", "--backlog", "16384", "--log-level", "error"]
PEERS = [
    Peer("nucleon, bare WSGI", ["ours.py", "PORT", "bare"], bare=True, ours=True),
    Peer("bjoern, bare WSGI", ["bare.py", "PORT"], ("bjoern",), bare=True),
    Peer("fastpysgi, bare WSGI", ["bare.py", "PORT", "fastpysgi"], ("fastpysgi",), bare=True),
    Peer("C, epoll: the floor", ["floor.c", "PORT"], bare=True),
    Peer("granian, bare WSGI", [*GRANIAN, "--interface", "wsgi", "bare:app"], ("granian",), bare=True),
    Peer("nucleon App", ["ours.py", "PORT", "app"], database=True, ours=True),
    Peer("granian, Falcon", [*GRANIAN, "--interface", "wsgi", "falcon_app:app"], ("granian", "falcon", "redis")),
    Peer("granian, BlackSheep", [*GRANIAN, "--interface", "asgi", "blacksheep_app:app"], ("granian", "blacksheep")),
    Peer(
        "gunicorn gevent, Falcon",
        ["-m", "gunicorn", "-k", "gevent", "-b", "127.0.0.1:PORT", "--keep-alive", "30", "--worker-connections", "20000", "falcon_app:app"],
        ("gunicorn", "packaging", "gevent", "falcon", "redis"),
        database=True,
    ),
    Peer(
        "uvicorn, FastAPI, asyncpg",
        ["-m", "uvicorn", *WEB, "--no-access-log", "--log-level", "error", "--timeout-keep-alive", "30", "fastapi_app:app"],
        ("uvicorn", "fastapi", "asyncpg", "redis"),
        database=True,
    ),
]

SMALL = json.dumps({"customer": "c-17", "note": "n" * 900, "lines": list(range(20))})
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Connection": "keep-alive",
    "Cookie": "session=0123456789abcdef0123456789abcdef; theme=dark",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
}
LOADS = {  # name: path, body; "bare" applications answer only the BARE ones
    "JSON": ("/json", ""),
    "JSON, 10 fields": ("/json", ""),
    "JSON, pipelined": ("/json", ""),
    "JSON, 1000 connections": ("/json", ""),
    "JSON, new connections": ("/json", ""),
    "typed path, query": ("/items/42?limit=5&search=abc", ""),
    "POST 1 KB": ("/echo", SMALL),
    "POST 1 MB": ("/upload", "x" * 1_000_000),
    "one row": ("/db", ""),
    "20 queries": ("/queries?n=20", ""),
    "20 reads, 20 updates": ("/updates?n=20", ""),
    "fortunes": ("/fortunes", ""),
    "Redis GET": ("/cached", ""),
}
BARE = ("JSON", "JSON, 10 fields", "JSON, pipelined", "JSON, 1000 connections", "JSON, new connections")
DATABASE = ("one row", "20 queries", "20 reads, 20 updates", "fortunes")
PIPELINED = """init = function(args)
  local one = wrk.format()
  local all = {}
  for number = 1, 16 do all[number] = one end
  batch = table.concat(all)
end
request = function() return batch end
"""
COLUMNS = ("server", "load", "CPU us", "req/s", "p50 ms", "p99 ms", "RSS MB", "errors")


def wrk(port: int, load: str, seconds: int) -> str:
    """Run wrk on the last core and return what it printed."""
    path, body = LOADS[load]
    connections = 8 if len(body) > 100_000 else 1000 if "1000" in load else CONNECTIONS
    lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}\n" for name, value in BROWSER.items()] if "10 fields" in load else []
    if "new connections" in load:
        lines.append('wrk.headers["Connection"] = "close"\n')
    if body:
        lines.append(f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = [==[{body}]==]\n')
    if "pipelined" in load:
        lines.append(PIPELINED)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("".join(lines))
        script.flush()
        core = str((os.cpu_count() or 2) - 1)
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *(["-s", script.name] if lines else [])]
        command = ["taskset", "-c", core, "wrk", *options, f"http://127.0.0.1:{port}{path}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def milliseconds(text: str, percentile: str) -> float:
    value, unit = re.findall(rf"{percentile}%\s+([0-9.]+)(us|ms|s|m)\b", text)[0]
    return float(value) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[unit]


def measure(pid: int, port: int, load: str, seconds: int) -> list[str]:
    wrk(port, load, 1)  # warm
    before = cpu_seconds(pid)
    text = wrk(port, load, seconds)
    spent = cpu_seconds(pid) - before
    count = int(re.findall(r"([0-9]+) requests in", text)[0])
    bad = re.findall(r"Non-2xx or 3xx responses: ([0-9]+)", text) + re.findall(r"Socket errors: (.*)", text)
    rate = float(re.findall(r"Requests/sec:\s+([0-9.]+)", text)[0])
    return [
        f"{spent / max(count, 1) * 1e6:.1f}", f"{rate:,.0f}", f"{milliseconds(text, '50'):.2f}", f"{milliseconds(text, '99'):.2f}",
        f"{rss_bytes(pid) / 1e6:.0f}", "; ".join(bad) or "0",
    ]  # fmt: skip


def measure_idle(pid: int, port: int) -> list[str]:
    """Hold kept connections after one request each; the growth of the server's memory is theirs."""
    before = rss_bytes(pid)
    held: list[socket.socket] = []
    lost = 0
    try:
        for _ in range(IDLE):
            connection = socket.create_connection(("127.0.0.1", port), timeout=5)
            held.append(connection)
            connection.sendall(b"GET /json HTTP/1.1\r\nHost: x\r\n\r\n")
            lost += not connection.recv(4096).startswith(b"HTTP/1.1 200")
        grown = rss_bytes(pid) - before
    finally:
        for connection in held:
            connection.close()
    return [f"{grown / IDLE / 1024:.2f} KB each", "", "", "", f"{(before + grown) / 1e6:.0f}", str(lost)]


def loads_of(peer: Peer, arguments: argparse.Namespace) -> list[str]:
    """Return what this peer is measured with."""
    loads = list(BARE) if peer.bare else ["JSON", "typed path, query", "POST 1 KB", "POST 1 MB"]
    if peer.database:
        loads += DATABASE if arguments.postgres else ()
        loads += ["Redis GET"] if arguments.redis else []
    return [load for load in loads if re.search(arguments.loads, load)]


def command_of(peer: Peer, python: str, port: int) -> list[str]:
    words = [part.replace("PORT", str(port)) for part in peer.command]
    if not words[0].endswith(".c"):
        return [python, *words]
    program = HERE / "apps" / "build" / words[0][:-2]
    program.parent.mkdir(exist_ok=True)
    subprocess.run(["cc", "-O2", "-o", str(program), words[0]], check=True, cwd=HERE / "apps")
    return [str(program), *words[1:]]


def rows_of(peer: Peer, python: str, arguments: argparse.Namespace) -> Iterator[list[str]]:
    """Yield the rows of one peer; a fault of one load is a row, not an end."""
    is_there = shutil.which("cc") is not None if peer.command[0].endswith(".c") else peer.ours or is_installed(python, peer.needs)
    if not is_there:
        yield [peer.name, "not installed", "", "", "", "", "", ""]
        return
    environment = {**os.environ, "BENCH_POSTGRES": arguments.postgres, "BENCH_REDIS": arguments.redis}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), str(HERE / "apps")])
    loads = loads_of(peer, arguments)
    if not loads:
        return
    try:
        port = free_port()
        with running(command_of(peer, python, port), port, HERE / "apps", environment) as pid:
            for load in loads:
                yield [peer.name, load, *measure(pid, port, load, arguments.seconds)]
        if arguments.loads:
            return
        port = free_port()
        with running(command_of(peer, python, port), port, HERE / "apps", environment) as pid:
            wrk(port, "JSON", 1)
            yield [peer.name, f"{IDLE} idle", *measure_idle(pid, port)]
    except (RuntimeError, OSError, subprocess.CalledProcessError, IndexError) as error:
        yield [peer.name, f"failed: {str(error)[-300:]}", "", "", "", "", "", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="length of one measurement")
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter with benchmarks/requirements.txt")
    parser.add_argument("--postgres", default="", help="DSN of a PostgreSQL server")
    parser.add_argument("--redis", default="", help="URL of a Redis server")
    parser.add_argument("--only", default="", help="only servers whose name this regular expression finds")
    parser.add_argument("--loads", default="", help="only loads that this regular expression finds; leaves out the idle connections")
    arguments = parser.parse_args()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if arguments.postgres:
        environment = {**os.environ, "BENCH_POSTGRES": arguments.postgres}
        subprocess.run([sys.executable, "world.py"], check=True, cwd=HERE / "apps", env=environment)
    rows = []
    for peer in PEERS:
        if re.search(arguments.only, peer.name):
            for row in rows_of(peer, sys.executable if peer.ours else arguments.peers_python, arguments):
                rows.append(row)
                print(" ".join(row), file=sys.stderr)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    if re.search(arguments.loads, "10 MB"):
        print()
        transfers.show(arguments.peers_python, arguments.only, "", arguments.seconds, rounds=3)


if __name__ == "__main__":
    main()
