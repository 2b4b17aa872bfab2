"""10 MB up and down, plain, chunked and over TLS, beside nginx: CPU for each MB, and the most memory that the server held meanwhile.

    python benchmarks/transfers.py --peers-python bench/bin/python [--seconds 2] [--rounds 3] [--only nucleon] [--loads file]

All servers run at once, on core 0; only one is loaded at a time, round after round, and a cell is the median of its rounds. The client
has four connections in as many threads on the last core. nginx has no way to take a body and be done with it, so there are three rows:
`return` (nginx reads and drops 4 KB at a time), `mirror` (reads into one buffer of 16 MB, the whole body is in memory) and `PUT` (to a
file on tmpfs). "of nginx" compares with the cheapest row of nginx. Chunks are of 8 or 64 KB, as clients make them; "whole" is one
`read()`, the other uploads read 64 KB at a time. TLS needs trustme, and is 1.3 with the ciphers that OpenSSL prefers.
`benchmarks/http.py` prints this table behind its own.
"""

import argparse
import os
import re
import shutil
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from serving import cpu_seconds, free_port, is_installed, peak_bytes, running, start_peak

HERE = Path(__file__).resolve().parent
SIZE = 10_000_000
THREADS = 4
PIECE = 262_144
COLUMNS = ("transfer", "server", "CPU us/MB", "MB/s", "peak MB", "of nginx")
NGINX = """daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off; tcp_nopush {sendfile}; sendfile {sendfile}; output_buffers 2 64k; client_max_body_size 20m;
  client_body_temp_path {folder}/body; default_type application/octet-stream; keepalive_requests 1000000000;
  proxy_temp_path {folder}/1; fastcgi_temp_path {folder}/2; uwsgi_temp_path {folder}/3; scgi_temp_path {folder}/4;
  server {{
    listen 127.0.0.1:{port}{tls};
    location = /file {{ alias {folder}/file; }}
    location = /return {{ return 200 "done"; }}
    location = /mirror {{
      client_body_buffer_size 16m; mirror /nothing; mirror_request_body on; error_page 405 =200 /answer; alias {folder}/file;
    }}
    location = /answer {{ internal; return 200 "done"; }}
    location = /nothing {{ internal; return 204; }}
    location /put/ {{ root {folder}; dav_methods PUT; create_full_put_path on; client_body_buffer_size 64k; }}
  }}
}}
"""


@dataclass(frozen=True)
class Transfer:
    """What one connection does again and again: a request with its body, and how many bytes come back (0: any answer)."""

    name: str
    head: bytes
    body: bytes = b""
    answer_bytes: int = 0
    is_secret: bool = False


def download(path: str, name: str) -> Transfer:
    return Transfer(name, b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode(), answer_bytes=SIZE)


def upload(path: str, name: str = "upload", method: str = "POST", is_secret: bool = False) -> Transfer:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: {SIZE}\r\n\r\n"
    return Transfer(name, head.encode(), bytes(SIZE), is_secret=is_secret)


def chunked(path: str, name: str, chunk_bytes: int, is_secret: bool = False) -> Transfer:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    sizes = [min(chunk_bytes, SIZE - at) for at in range(0, SIZE, chunk_bytes)]
    body = b"".join(b"%x\r\n%b\r\n" % (size, bytes(size)) for size in sizes) + b"0\r\n\r\n"
    return Transfer(name, head.encode(), body, is_secret=is_secret)


@dataclass
class Row:
    """One server with one transfer, and what was measured."""

    server: str
    transfer: Transfer
    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    peak: int = 0
    failure: str = ""


OURS = [download("/file", "file"), download("/memory", "memory"), download("/stream", "stream"), upload("/upload")]
CHUNKED = [chunked("/upload", "chunked 8 KB", 8_192), chunked("/upload", "chunked 64 KB", 65_536)]
WHOLE = [upload("/whole", "upload, whole"), chunked("/whole", "chunked 64 KB, whole", 65_536)]
SECRET = [
    upload("/upload", "TLS upload", is_secret=True), chunked("/upload", "TLS chunked 64 KB", 65_536, is_secret=True),
    upload("/whole", "TLS upload, whole", is_secret=True), chunked("/whole", "TLS chunked 64 KB, whole", 65_536, is_secret=True),
]  # fmt: skip
SERVERS: dict[str, tuple[list[str], tuple[str, ...], list[Transfer]]] = {
    "nucleon": (["transfer.py", "PORT", "nucleon", "FILE"], (), OURS + CHUNKED + WHOLE),
    "nucleon, TLS": (["transfer.py", "PORT", "nucleon", "FILE", "CHAIN"], (), SECRET),
    "bjoern": (["transfer.py", "PORT", "bjoern", "FILE"], ("bjoern",), OURS + CHUNKED),
    "fastpysgi": (["transfer.py", "PORT", "fastpysgi", "FILE"], ("fastpysgi",), OURS + CHUNKED),
    "nginx, sendfile": (["on"], (), [download("/file", name) for name in ("file", "memory", "stream")]),
    "nginx, without": (["off"], (), [download("/file", name) for name in ("file", "memory", "stream")]),
    "nginx, return": (
        ["on"], (), [upload("/return"), chunked("/return", "chunked 8 KB", 8_192), chunked("/return", "chunked 64 KB", 65_536)]
    ),
    "nginx, mirror": (
        ["on"], (), [upload("/mirror", name) for name in ("upload", "upload, whole")] + [chunked("/mirror", "chunked 64 KB, whole", 65_536)]
    ),
    "nginx, return, TLS": (
        ["on"], (), [upload("/return", "TLS upload", is_secret=True), chunked("/return", "TLS chunked 64 KB", 65_536, is_secret=True)]
    ),
    "nginx, mirror, TLS": (["on"], (), [upload("/mirror", name, is_secret=True) for name in ("TLS upload", "TLS upload, whole")]),
    "nginx, PUT": (["on"], (), [upload("/put/THREAD", method="PUT")]),
}


def connected(port: int, is_secret: bool) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    if not is_secret:
        return connection
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)


def certify(folder: Path) -> Path:
    """Write a chain with its key, in one file."""
    import trustme

    leaf = trustme.CA().issue_cert("localhost")
    chain = folder / "chain.pem"
    chain.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    return chain


def exchange(port: int, transfer: Transfer, ends_at: float, number: int) -> int:
    """Repeat a transfer on one connection until the instant, and return how many were whole. Raises `RuntimeError`, `OSError`."""
    buffer = memoryview(bytearray(PIECE))
    count = 0
    request = transfer.head.replace(b"THREAD", b"%d" % number)
    with connected(port, transfer.is_secret) as connection:
        while time.monotonic() < ends_at:
            connection.sendall(request)
            if transfer.body:
                connection.sendall(transfer.body)
            head = b""
            while b"\r\n\r\n" not in head:
                received = connection.recv(PIECE)
                if not received:
                    raise RuntimeError("the connection ended within the head")
                head += received
            head, _, rest = head.partition(b"\r\n\r\n")
            if not re.match(rb"HTTP/1.1 20[0-9] ", head):
                raise RuntimeError(head[:60].decode("latin-1"))
            length = re.search(rb"(?i)content-length: *([0-9]+)", head)
            left = (int(length[1]) if length else 0) - len(rest)
            if transfer.answer_bytes and left + len(rest) != transfer.answer_bytes:
                raise RuntimeError(f"{left + len(rest)} bytes announced")
            while left > 0:
                taken = connection.recv_into(buffer, min(left, PIECE))
                if not taken:
                    raise RuntimeError("the connection ended within the body")
                left -= taken
            count += 1
    return count


def load(port: int, transfer: Transfer, seconds: float) -> int:
    """Repeat a transfer on all connections, on the last core; return how many were whole."""
    counts: list[int] = []
    failures: list[Exception] = []
    ends_at = time.monotonic() + seconds

    def one(number: int) -> None:
        os.sched_setaffinity(0, {(os.cpu_count() or 2) - 1})  # of this thread alone
        try:
            counts.append(exchange(port, transfer, ends_at, number))
        except (OSError, RuntimeError) as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(str(failures[0]))
    return sum(counts)


def measure(row: Row, pid: int, port: int, seconds: float) -> None:
    load(port, row.transfer, 0.2)  # warm
    start_peak(pid)
    before, began = cpu_seconds(pid), time.monotonic()
    count = load(port, row.transfer, seconds)
    spent, lasted = cpu_seconds(pid) - before, time.monotonic() - began
    row.cpu.append(spent / (count * SIZE / 1e6) * 1e6)
    row.rate.append(count * SIZE / 1e6 / lasted)
    row.peak = max(row.peak, peak_bytes(pid))


def start(stack: ExitStack, name: str, folder: Path, peers_python: str) -> tuple[int, int] | None:
    """Start a server: its process id and port; None when it is not installed."""
    words, needs, _ = SERVERS[name]
    port = free_port()
    if name.startswith("nginx"):
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            return None
        place = folder / f"nginx-{port}"
        (place / "put").mkdir(parents=True)
        os.link(folder / "file", place / "file")
        chain = folder / "chain.pem"
        tls = f" ssl; ssl_certificate {chain}; ssl_certificate_key {chain}" if name.endswith("TLS") else ""
        (place / "nginx.conf").write_text(NGINX.format(folder=place, sendfile=words[0], port=port, tls=tls))
        command = [program, "-e", "stderr", "-p", str(place), "-c", str(place / "nginx.conf")]
        return stack.enter_context(running(command, port, place, dict(os.environ))), port
    is_ours = name.startswith("nucleon")
    python = sys.executable if is_ours else peers_python
    if not is_ours and not is_installed(python, needs):
        return None
    given = {"PORT": str(port), "FILE": str(folder / "file"), "CHAIN": str(folder / "chain.pem")}
    command = [python, *(given.get(word, word) for word in words)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    return stack.enter_context(running(command, port, HERE / "apps", environment)), port


def measured(peers_python: str, only: str, loads: str, seconds: float, rounds: int) -> list[Row]:
    """Start all servers, load them in turns, and return their rows."""
    rows: list[Row] = []
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as made, ExitStack() as stack:
        folder = Path(made)
        (folder / "file").write_bytes(bytes(SIZE))
        certify(folder)
        started: dict[str, tuple[int, int]] = {}
        for name, (_, _, transfers) in SERVERS.items():
            wanted = [Row(name, transfer) for transfer in transfers if re.search(loads, transfer.name)]
            if not wanted or not re.search(only, name):
                continue
            place = start(stack, name, folder, peers_python)
            if place is None:
                wanted = [Row(name, row.transfer, failure="not installed") for row in wanted]
            else:
                started[name] = place
            rows += wanted
        for _ in range(rounds):
            for row in [row for row in rows if not row.failure]:
                try:
                    measure(row, *started[row.server], seconds)
                except (RuntimeError, OSError) as error:
                    row.failure = f"failed: {error}"
    return rows


def show(peers_python: str, only: str, loads: str, seconds: float, rounds: int) -> None:
    """Measure, and print one table."""
    rows = measured(peers_python, only, loads, seconds, rounds)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for name in dict.fromkeys(row.transfer.name for row in rows):
        of_load = [row for row in rows if row.transfer.name == name]
        measures = [statistics.median(row.cpu) for row in of_load if row.server.startswith("nginx") and row.cpu]
        for row in of_load:
            if row.failure:
                print(f"| {name} | {row.server} | {row.failure} | | | |")
                continue
            cpu = statistics.median(row.cpu)
            ratio = f"{cpu / min(measures):.2f}" if measures else ""
            print(f"| {name} | {row.server} | {cpu:.0f} | {statistics.median(row.rate):,.0f} | {row.peak / 1e6:.0f} | {ratio} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of a cell")
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter with benchmarks/requirements.txt")
    parser.add_argument("--only", default="", help="only servers whose name this regular expression finds")
    parser.add_argument("--loads", default="", help="only transfers whose name this regular expression finds")
    arguments = parser.parse_args()
    show(arguments.peers_python, arguments.only, arguments.loads, arguments.seconds, arguments.rounds)


if __name__ == "__main__":
    main()
