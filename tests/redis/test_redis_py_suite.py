"""redis-py's own tests of its commands, run against our client: each that does not pass has its reason here.

They come from redis-py's source distribution, of the version that is installed. Skipped are, by their own marks, those for servers
newer than Redis 8.0 and for Redis Enterprise; left out are those that need a cluster, a replica, TLS or a module.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from private_servers import PrivateValkey
from redis_py_source import redis_py_source

from nucleon.testing.live import free_port

NO_CONNECTION = "the test looks into `client.connection`, or replaces it: ours has none, commands share connections"
ON_ITS_OWN = "CLIENT SETNAME and AUTH change a connection of their own, which is closed after them: nobody meets what they left"
SERVER = "Valkey answers otherwise than Redis; redis-py's client fails too"
ELSEWHERE = "the test's client wants a server on port 6379; redis-py's client fails too"
GEVENT = "the test patches threading.Event, which is gevent's here; redis-py's client fails too"
NO_INTRODUCTION = "new connections do not introduce themselves as redis-py: two round trips less"

CLUSTER = (
    "addslots", "count_failure_reports", "countkeysinslot", "delslots", "failover", "forget", "info", "meet", "nodes", "replicate", "reset",
    "saveconfig", "setslot", "slaves",
)  # fmt: skip
EXPECTED = {
    "commands TestRedisCommands::test_acl_getuser_setuser": SERVER,
    "commands TestRedisCommands::test_auth": f"{ON_ITS_OWN}; a wrong password is `Away`, a ConnectionError",
    "commands TestRedisCommands::test_client_kill": ON_ITS_OWN,
    "commands TestRedisCommands::test_client_kill_filter_by_addr": ON_ITS_OWN,
    "commands TestRedisCommands::test_client_kill_filter_by_id": ON_ITS_OWN,
    "commands TestRedisCommands::test_client_kill_filter_by_laddr": ON_ITS_OWN,
    "commands TestRedisCommands::test_client_kill_filter_by_maxage": ON_ITS_OWN,
    "commands TestRedisCommands::test_client_list_after_client_setname": ON_ITS_OWN,
    "commands TestRedisCommands::test_client_setinfo": NO_INTRODUCTION,
    "commands TestRedisCommands::test_client_setinfo_with_driver_info": ELSEWHERE,
    "commands TestRedisCommands::test_client_setname": ON_ITS_OWN,
    "commands TestRedisCommands::test_interrupted_command": NO_CONNECTION,
    "commands TestRedisCommands::test_readonly_invalid_cluster_state": SERVER,
    "commands TestRedisCommands::test_slowlog_get": "the test replaces `client.parse_response`, which shared commands do not pass",
    "commands TestRedisCommands::test_xgroup_create_entriesread": SERVER,
    "pubsub TestPubSubTimeouts::test_get_message_not_subscribed_return_none": GEVENT,
    "pubsub TestPubSubTimeouts::test_get_message_wait_for_subscription_not_being_called": GEVENT,
    **{f"commands TestRedisCommands::test_cluster_{name}": NO_CONNECTION for name in CLUSTER},
}
SOONER = f"connected again sooner than the test looks: {NO_INTRODUCTION}"
TRACKS = "with copies, connections ask for CLIENT TRACKING: the answer, and what the log of denials holds, are others"
EXPECTED_OVER = {
    "2": {f"pubsub TestPubSubAutoReconnect::test_reconnect_socket_error[{way}]": SOONER for way in ("get_message", "listen")},
    "3": {},
    "3 copies": {f"commands TestRedisCommands::test_{name}": TRACKS for name in ("acl_log", "client_getredir")},
}
PARTS = (("commands",), ("pubsub", "pipeline", "function"), ("hash", "scripting", "encoding", "lock", "monitor"))
"""Files of tests, each group on a server of its own: most of their time they sleep."""
PASSED = 630  # of those with a client


@contextmanager
def started(part: tuple[str, ...], way: str) -> Iterator[subprocess.Popen[str]]:
    """Yield the process that runs a group of files."""
    port = free_port()
    server = PrivateValkey(port=str(port))
    server.start()
    shim = Path(__file__).with_name("redis_py_shim.py")
    command = [sys.executable, str(shim), str(redis_py_source()), f"redis://127.0.0.1:{port}/0", way, *part]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        server.close()


@pytest.fixture(scope="module")
def accounts() -> dict[str, list[dict[str, Any]]]:
    """What the shim told of each group, by the way they were run; all run at once."""
    told: dict[str, list[dict[str, Any]]] = {way: [] for way in EXPECTED_OVER}
    with ExitStack() as stack:
        running = [(way, stack.enter_context(started(part, way))) for way in told for part in PARTS]
        for way, process in running:
            said, complaints = process.communicate(timeout=200)
            assert process.returncode == 0, said + complaints
            told[way].append(json.loads(said.splitlines()[-1]))
    return told


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", EXPECTED_OVER)
def test_every_test_of_redis_py_passes_or_differs_for_a_reason(accounts: dict[str, list[dict[str, Any]]], way: str) -> None:
    failed, skipped = {}, {}
    for account in accounts[way]:
        failed.update(account["failed"])
        skipped.update(account["skipped"])
    expected = {**EXPECTED, **EXPECTED_OVER[way]}
    others = {name: said for name, said in failed.items() if name not in expected}
    assert not others, json.dumps(others, indent=1)
    assert set(expected) == set(failed), "these pass now: take them out of the table"
    assert sum(account["passed_with_client"] for account in accounts[way]) >= PASSED
    assert all("Redis version required" in why or "redis enterprise" in why for why in skipped.values()), skipped
