"""Our Redis client beside others, all against one server: one table.

    python benchmarks/redis.py --peers-python bench/bin/python [--commands 20000] [--redis URL] [--only nucleon]

Without --redis an embedded Valkey is started for the run, on the last core. Each client runs on core 0, in a process of its own. "CPU us"
is that process's user and system time for one command, the best of five slices: on a busy machine the figure to trust. A client whose
packages are missing is shown as "not installed". No figure is a test.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE]  # this file would hide the library's redis
NAMES = {  # name in the table: function of apps/redis_clients.py, modules that have to be there
    "nucleon": ("nucleon", ()),
    "redis-py, blocking pool, gevent": ("redis_py", ("redis", "gevent")),
    "redis.asyncio, uvloop": ("redis_asyncio", ("redis", "uvloop")),
    "coredis, uvloop": ("coredis", ("coredis", "uvloop")),
    "valkey-glide, uvloop": ("glide", ("glide", "uvloop")),
}
AT_ONCE = ("1", "16", "64", "512")


@contextmanager
def server(url: str) -> Iterator[str]:
    """Yield the URL given, or that of an embedded server that ends with the block."""
    if url:
        yield url
        return
    from nucleon.embedded import ValkeyServer

    with tempfile.TemporaryDirectory() as folder:
        embedded = ValkeyServer(Path(folder), tcp=True, options={"appendonly": "no", "save": ""})
        embedded.start()
        os.sched_setaffinity(embedded.pid, {(os.cpu_count() or 1) - 1})
        try:
            yield embedded.tcp_url
        finally:
            embedded.discard()


def is_installed(python: str, modules: tuple[str, ...]) -> bool:
    code = f"import importlib.util as u, sys; sys.exit(not all(u.find_spec(m) for m in {modules!r}))"
    return subprocess.run([python, "-c", code], check=False, capture_output=True, cwd="/").returncode == 0


def figures(name: str, python: str, url: str, commands: int) -> Iterator[tuple[str, str, str, str, str]]:
    function, modules = NAMES[name]
    if not is_installed(python, modules):
        yield name, "not installed", "", "", ""
        return
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)} if function == "nucleon" else dict(os.environ)
    command = ["taskset", "-c", "0", python, str(HERE / "apps" / "redis_clients.py"), function, url, str(commands), *AT_ONCE]
    run = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    for line in run.stdout.splitlines():
        found = json.loads(line)
        yield name, found["load"], str(found["at_once"]), f"{found['cpu']:.1f}", f"{found['rate']:,.0f}"
    if run.returncode != 0:
        yield name, f"failed: {run.stderr.strip()[-200:]}", "", "", ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=20_000, help="commands of one measurement; ours get five times as many")
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter with benchmarks/requirements.txt")
    parser.add_argument("--redis", default="", help="URL of a Redis server that may be written to")
    parser.add_argument("--only", default="", help="only clients whose name contains this")
    arguments = parser.parse_args()
    rows = []
    with server(arguments.redis) as url:
        for name in NAMES:
            if arguments.only not in name and name != "nucleon":
                continue  # ours fills the keys that the others read
            is_ours = name == "nucleon"
            python, commands = (sys.executable, arguments.commands * 5) if is_ours else (arguments.peers_python, arguments.commands)
            for row in figures(name, python, url, commands):
                rows.append(row)
                print(" ".join(row), file=sys.stderr)
    print("| client | load | at once | CPU us | commands/s |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
