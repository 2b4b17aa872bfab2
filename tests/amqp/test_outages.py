"""A short outage is waited out, a long one is told at once (docs/decisions/0071)."""

from collections.abc import Callable
from time import monotonic

import gevent
import pytest

from nucleon import green
from nucleon.amqp import Amqp, ConnectionLost, OutcomeUnknown
from nucleon.amqp.settings import Settings
from nucleon.errors import DeadlineExceeded, SetupError
from nucleon.testing import TcpProxy, eventually

Connect = Callable[..., Amqp]


def refused(what: Callable[[], object]) -> tuple[float, ConnectionLost]:
    """Return how long it took until RabbitMQ was said to be away, and the error."""
    began = monotonic()
    with pytest.raises(ConnectionLost) as caught:
        what()
    return monotonic() - began, caught.value


def test_a_long_outage_is_told_at_once_and_ends_by_itself(connect: Connect, proxy: TcpProxy) -> None:
    far = connect(proxy, bridge_seconds=0.4, wait_seconds=8, retry_maximum_seconds=0.3)
    jobs = far.queue("jobs")
    jobs.put(b"1")
    proxy.reset()
    assert eventually(lambda: far.publishing.connection is None and far.consuming.connection is None)
    took, error = refused(lambda: jobs.put(b"2"))
    assert took < 4 and "no connection to RabbitMQ for" in str(error) and "next attempt in" in str(error)
    assert int(error.headers["Retry-After"]) >= 1 and error.status == 503
    asked = {
        "put": lambda: jobs.put(b"3"), "publish": lambda: far.publish("amq.fanout", "", b"x"), "put_async": lambda: jobs.put_async(b"4"),
        "rpc": lambda: far.rpc("jobs", b"?"), "declare": lambda: far.queue("new").declare(), "health": far.health,
    }  # fmt: skip
    took = {name: refused(one)[0] for name, one in asked.items()}
    assert max(took.values()) < 2, took  # wait_seconds is 8
    proxy.pass_through()
    assert eventually(lambda: far.publishing.connection is not None and far.consuming.connection is not None)
    jobs.put(b"5")
    assert [jobs.get(5).body, jobs.get(5).body] == [b"1", b"5"]


def test_a_short_outage_is_waited_out(connect: Connect, proxy: TcpProxy) -> None:
    far = connect(proxy, bridge_seconds=8)
    jobs = far.queue("jobs")
    jobs.put(b"1")
    proxy.reset()
    assert eventually(lambda: far.publishing.connection is None)
    putting = [gevent.spawn(jobs.put, b"%d" % number) for number in range(2, 12)]
    green.sleep(0.3)
    assert not any(one.dead for one in putting)
    proxy.pass_through()
    gevent.joinall(putting, raise_error=True)
    assert sorted(int(jobs.get(5).body) for _ in range(11)) == list(range(1, 12))


def test_a_timeout_of_its_own_and_the_deadline_go_over_it(connect: Connect, proxy: TcpProxy) -> None:
    far = connect(proxy, bridge_seconds=0.1)
    jobs = far.queue("jobs")
    jobs.put(b"1")
    proxy.reset()
    assert eventually(lambda: far.publishing.connection is None)
    refused(lambda: jobs.put(b"2"))
    patient = gevent.spawn(jobs.put, b"3", timeout=20)
    with green.deadline(0.05), pytest.raises(DeadlineExceeded):
        jobs.put(b"4", timeout=20)
    assert not patient.dead
    proxy.pass_through()
    patient.get(timeout=20)


def test_a_server_that_was_never_there_is_told_as_soon(connect: Connect) -> None:
    nobody = connect(url="amqp://127.0.0.1:1", bridge_seconds=0.2, wait_seconds=8)
    took, _ = refused(lambda: nobody.publish("x", "", b"x"))
    assert took < 4
    assert refused(lambda: nobody.publish("x", "", b"x"))[0] < 1


def test_a_message_that_may_have_arrived_stays_unknown_when_there_is_no_second_try(connect: Connect, proxy: TcpProxy) -> None:
    far = connect(proxy)
    jobs = far.queue("jobs")
    jobs.put(b"1")
    proxy.blackhole("to_client")
    putting = gevent.spawn(lambda: jobs.put(b"2", retry=True, timeout=1))
    assert eventually(lambda: far.publishers.unconfirmed() == 1)
    proxy.reset()
    with pytest.raises(OutcomeUnknown):  # and no ConnectionLost, which says that nothing was sent
        putting.get(timeout=10)


def test_the_setting_is_checked() -> None:
    assert Settings().bridge_seconds == 2
    with pytest.raises(SetupError, match="bridge_seconds must not be negative, not -1"):
        Settings(bridge_seconds=-1)
