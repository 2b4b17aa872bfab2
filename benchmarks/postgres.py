"""Our PostgreSQL client beside others, all against one server: one table.

    python benchmarks/postgres.py --peers-python bench/bin/python [--seconds 1] [--rounds 3] [--postgres DSN] [--only nucleon]

Without --postgres an embedded server is started for the run. Each client runs on core 0 (the server wherever the system likes), in a
process of its own, in several rounds. "CPU us" is that process's user and system time for one statement, the best of five slices of
each round: on a busy machine the figure to trust. A client whose packages are missing is shown as "not installed". No figure is a test.
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
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE]  # http.py beside this one would hide the library's http
NAMES = {  # name in the table: function of apps/postgres_clients.py, modules that have to be there
    "psycopg2, blocking, tuples": ("psycopg2_blocking", ("psycopg2",)),
    "psycopg2, green, tuples": ("psycopg2_green", ("psycopg2", "psycogreen", "gevent")),
    "nucleon, models": ("nucleon", ()),
    "psycopg 3 + its pool, gevent, dataclass": ("psycopg3_gevent", ("psycopg", "psycopg_pool", "gevent")),
    "SQLAlchemy Core + psycopg2, gevent": ("sqlalchemy_core", ("sqlalchemy", "psycopg2", "psycogreen", "gevent")),
    "asyncpg + its pool, dataclass": ("asyncpg_pool", ("asyncpg",)),
    "psycopg 3 async + its pool, dataclass": ("psycopg3_async", ("psycopg", "psycopg_pool")),
}
LOADS = ("one row, 16 at a time", "20 in a row", "100 rows")
TABLE = """
drop table if exists bench_items;
create table bench_items (id int primary key, name text not null, price float8 not null, made timestamptz not null);
insert into bench_items select i, 'item ' || i, i / 4.0, now() from generate_series(1, 1000) i;
analyze bench_items;
"""


@contextmanager
def server(dsn: str) -> Iterator[str]:
    """Yield the DSN given, or that of an embedded server that ends with the block."""
    if dsn:
        yield dsn
        return
    from nucleon.embedded import PostgresServer

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        embedded = PostgresServer(Path(folder), options={"fsync": "off", "max_connections": "60"})
        embedded.start()
        try:
            yield embedded.dsn
        finally:
            embedded.discard()


def make_table(dsn: str) -> None:
    import psycopg2

    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(TABLE)
    finally:
        connection.close()


def is_installed(python: str, modules: tuple[str, ...]) -> bool:
    code = f"import importlib.util as u, sys; sys.exit(not all(u.find_spec(m) for m in {modules!r}))"
    return subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0


Figures = dict[str, dict[str, float]]


def measure(name: str, python: str, dsn: str, seconds: float) -> Figures | str:
    """Run one client once; return its figures, or why there are none."""
    client, needs = NAMES[name]
    if not is_installed(python, needs):
        return "not installed"
    command = ["taskset", "-c", "0", python, str(HERE / "apps" / "postgres_clients.py"), client, dsn, str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        return f"failed: {ran.stderr.strip().splitlines()[-1]}"
    figures: Figures = json.loads(ran.stdout)
    return figures


def better(one: Figures | str | None, other: Figures | str) -> Figures | str:
    """Return the less disturbed figure of each load."""
    if one is None or isinstance(one, str) or isinstance(other, str):
        return other
    return {load: min(one[load], other[load], key=lambda figures: figures["cpu_us"]) for load in one}


def cells(name: str, found: Figures | str) -> list[str]:
    if isinstance(found, str):
        return [name, found]
    shown = [found.get(load) for load in LOADS]
    return [name, *(cell for one in shown for cell in (["", ""] if one is None else [f"{one['cpu_us']:.1f}", f"{one['per_second']:,.0f}"]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="how often each client is run, in turn")
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter with benchmarks/requirements.txt")
    parser.add_argument("--postgres", default="", help="DSN (key=value form) of a PostgreSQL server")
    parser.add_argument("--only", default="", help="only clients whose names contain one of these (a,b)")
    arguments = parser.parse_args()
    best: dict[str, Figures | str] = {}
    with server(arguments.postgres) as dsn:
        make_table(dsn)
        for _ in range(arguments.rounds):
            for name, (client, _needs) in NAMES.items():
                if any(part in name for part in arguments.only.split(",")):
                    python = sys.executable if client == "nucleon" else arguments.peers_python
                    best[name] = better(best.get(name), measure(name, python, dsn, arguments.seconds))
    columns = ["client", *(f"{load}: {unit}" for load in LOADS for unit in ("CPU us", "/s"))]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name, found in best.items():
        print(f"| {' | '.join(cells(name, found))} |")


if __name__ == "__main__":
    main()
