"""Our nginx site before a master, a worker and the server: keep-alive, the client's address and scheme, reload."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import nucleon
from nucleon.testing import TcpProxy

LIBRARY = Path(nucleon.__file__).parents[1]
SERVICE = """
import json, os, socket, sys
from nucleon import process

def work(sockets):
    from nucleon import green
    green.patch()
    import gevent, signal
    from nucleon.message import Response
    from nucleon.server import Server, Settings

    class Application:
        def respond(self, request):
            facts = {"client": request.client, "scheme": request.scheme, "version": request.version,
                     "host": request.headers["host"], "connection": request.headers.get("connection"), "pid": os.getpid()}
            return Response(json.dumps(facts).encode(), headers={"Content-Type": "application/json"})

    server = Server(Application(), Settings(trusted_proxies=("127.0.0.1",)))
    server.add_listener(sockets[0])

    def leave():
        server.stop_accepting()
        server.drain()
        server.stop()

    gevent.signal_handler(signal.SIGTERM, lambda: gevent.spawn(leave))
    server.start()
    process.ready()
    os.write(1, b"ready\\n")
    server.serve_forever()

listener = socket.create_server(("127.0.0.1", 0))
os.write(1, b"%d\\n" % listener.getsockname()[1])
sys.exit(process.run(process.Settings(workers=1), [listener], work))
"""
MAIN = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass
class Site:
    """The parts of the journey and how to ask them."""

    service: "subprocess.Popen[bytes]"
    service_port: int
    between: TcpProxy
    nginx_port: int

    def ask(self, port: int, *, source: str = "127.0.0.1", **fields: str) -> dict[str, object]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=(source, 0))
        try:
            connection.request("GET", "/", headers={name.replace("_", "-"): value for name, value in fields.items()})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            return dict(json.loads(body))
        finally:
            connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def start_nginx(folder: Path, port: int, upstream_port: int) -> "subprocess.Popen[bytes]":
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program, "nginx is missing: apt-get install -y nginx-light"
    site = (LIBRARY / "config" / "nginx.conf").read_text()
    for ours, theirs in (("127.0.0.1:8000", f"127.0.0.1:{upstream_port}"), ("listen 80;", f"listen 127.0.0.1:{port};")):
        assert ours in site
        site = site.replace(ours, theirs)
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user="user root;" if os.geteuid() == 0 else ""))
    nginx = subprocess.Popen([program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")])
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return nginx
        except OSError:
            assert nginx.poll() is None and time.monotonic() < end, "nginx did not start"
            time.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    service = subprocess.Popen([sys.executable, "-c", SERVICE], stdout=subprocess.PIPE, env=environment)
    assert service.stdout is not None
    nginx = None
    try:
        service_port = int(service.stdout.readline())
        assert service.stdout.readline() == b"ready\n"
        with TcpProxy(("127.0.0.1", service_port)) as between:
            port = free_port()
            nginx = start_nginx(tmp_path, port, between.port)
            yield Site(service, service_port, between, port)
            nginx.send_signal(signal.SIGQUIT)
            nginx.wait(10)
        service.send_signal(signal.SIGTERM)
        assert service.wait(10) == 0
    finally:
        for process in (nginx, service):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        service.stdout.close()


def test_many_clients_share_a_kept_connection_to_the_service(site: Site) -> None:
    for _ in range(20):
        facts = site.ask(site.nginx_port)
        assert (facts["version"], facts["connection"]) == ("HTTP/1.1", None)
    assert site.between.accepted == 1


def test_the_client_address_and_scheme_come_from_the_proxy_and_not_from_the_client(site: Site) -> None:
    lies = {"X_Forwarded_For": "6.6.6.6", "X_Forwarded_Proto": "https", "Forwarded": "for=6.6.6.6;proto=https", "Host": "shop.test:8080"}
    through = site.ask(site.nginx_port, source="127.0.0.2", **lies)
    assert (through["client"], through["scheme"], through["host"]) == ("127.0.0.2", "http", "shop.test:8080")
    past = site.ask(site.service_port, source="127.0.0.3", **lies)
    assert (past["client"], past["scheme"]) == ("127.0.0.3", "http")
    trusted = site.ask(site.service_port, X_Forwarded_For="9.9.9.9", X_Forwarded_Proto="https")
    assert (trusted["client"], trusted["scheme"]) == ("9.9.9.9", "https")


def test_a_reload_behind_nginx_answers_everybody(site: Site) -> None:
    assert site.service.stdout is not None
    old = site.ask(site.nginx_port)["pid"]
    site.service.send_signal(signal.SIGHUP)
    assert site.service.stdout.readline() == b"ready\n"
    end = time.monotonic() + 10
    while site.ask(site.nginx_port)["pid"] == old:
        assert time.monotonic() < end
    assert site.ask(site.nginx_port)["pid"] != old
