import subprocess
import sys


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_a_driver_that_was_imported_too_early_is_named() -> None:
    result = run("import psycopg2\nfrom nucleon import green\ngreen.patch()")
    assert result.returncode == 1
    assert "psycopg2 was imported before" in result.stderr


def test_patch_makes_sockets_and_psycopg2_wait_in_the_hub() -> None:
    result = run(
        "from nucleon import green\ngreen.patch(); green.patch()\n"
        "import socket, gevent.socket, psycopg2.extensions\n"
        "print(socket.socket is gevent.socket.socket, psycopg2.extensions.get_wait_callback() is not None)"
    )
    assert result.stdout.split() == ["True", "True"], result.stderr
