"""Own request ids: every process has a name of its own."""

import subprocess
import sys

PROGRAM = """
import os
from nucleon.message import Request

def tell():
    print(Request("GET", "/").id, flush=True)

tell()
child = os.fork()
if child == 0:
    tell()
    os._exit(0)
os.waitpid(child, 0)
"""


def test_ids_of_forked_workers_differ_from_those_of_their_parent() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=True)
    parents, childs = done.stdout.split()
    assert parents.partition("-")[0] != childs.partition("-")[0]
