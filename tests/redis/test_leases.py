"""Leases: one holder at a time, fencing tokens that grow, losses that are told, kills that give back."""

import logging
import os
import random
import signal
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from nucleon import green
from nucleon.errors import DeadlineExceeded, SetupError, Unavailable
from nucleon.redis import Lease, LeaseLost, LeaseTaken, Redis
from nucleon.secret import Secret
from nucleon.testing import TcpProxy, eventually


@pytest.fixture
def workers(redis_url: str) -> Iterator[tuple[Redis, Redis]]:
    pair = Redis(url=Secret(redis_url)), Redis(url=Secret(redis_url))
    yield pair
    for client in pair:
        client.stop()


def test_one_holds_at_a_time_and_fences_grow(workers: tuple[Redis, Redis]) -> None:
    leases = [client.lease("door") for client in workers]
    inside: list[int] = []
    fences: list[int] = []

    def work(lease: Lease) -> None:
        for _ in range(5):
            with lease.held() as held:
                inside.append(1)
                assert len(inside) == 1
                green.sleep(0.002)
                held.check()
                fences.append(held.fence)
                inside.pop()

    workers_at_it = [green.spawn(work, lease) for lease in leases for _ in range(4)]
    for one in workers_at_it:
        one.get(timeout=20)
    assert len(fences) == 40 and fences == sorted(set(fences))
    assert not leases[0].is_taken()


def test_a_release_wakes_the_next_at_once(workers: tuple[Redis, Redis], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lease, "RECHECK_SECONDS", 60)
    one, other = (client.lease("door", ttl_seconds=60) for client in workers)
    with one.held():
        waiting = green.spawn(lambda: other.held(20).__enter__().fence)
        eventually(lambda: workers[0].pubsub_numsub("lease:{door}:free")[0][1])
        started = monotonic()
    waiting.get(timeout=5)
    assert monotonic() - started < 2


def test_many_who_wait_ask_redis_seldom(workers: tuple[Redis, Redis]) -> None:
    """Fifty greenlets of one worker wait half a second: their first in line asks, the others stand behind it."""
    holder, lease = workers[0].lease("door"), workers[1].lease("door")
    with holder.held():
        crowd = [green.spawn(lambda: lease.held(5).__enter__()) for _ in range(50)]
        eventually(lambda: lease.waiting == 50)
        before = workers[1].calls
        green.sleep(0.5)
        assert workers[1].calls - before <= 5
    for one in crowd:
        one.kill()


def test_a_wait_ends_at_its_patience_or_at_the_deadline(workers: tuple[Redis, Redis]) -> None:
    with workers[0].lease("door").held():
        lease = workers[1].lease("door")
        for patience in (0, 0.05):
            with pytest.raises(LeaseTaken), lease.held(patience):
                pass
        with pytest.raises(DeadlineExceeded), green.deadline(0.05), lease.held():
            pass
        assert "0 waiting, 0 taken" in repr(lease)


def test_a_living_holder_renews(workers: tuple[Redis, Redis]) -> None:
    with workers[0].lease("door", ttl_seconds=0.8).held() as held:  # long enough for a machine that is busy
        green.sleep(1.2)
        held.check()
        assert held.remaining() > 0 and "fence" in repr(held)


def test_a_killed_holder_releases(workers: tuple[Redis, Redis]) -> None:
    lease = workers[0].lease("door", ttl_seconds=60)
    entered = green.Event()

    def hold() -> None:
        with lease.held():
            entered.set()
            green.sleep(60)

    victim = green.spawn(hold)
    entered.wait(5)
    victim.kill()
    with workers[1].lease("door").held(1):
        pass


def test_a_holder_whose_deadline_passed_releases(workers: tuple[Redis, Redis]) -> None:
    with pytest.raises(DeadlineExceeded), green.deadline(0.1), workers[0].lease("door", ttl_seconds=60).held():
        green.sleep(5)
    with workers[1].lease("door").held(1):
        pass


def test_one_killed_at_any_moment_of_taking_leaves_no_lease(workers: tuple[Redis, Redis]) -> None:
    for turns in range(12):
        lease = workers[0].lease("door", ttl_seconds=60)

        def hold(lease: Lease = lease) -> None:
            with lease.held():
                green.sleep(60)

        victim = green.spawn(hold)
        for _ in range(turns):
            green.sleep(0)
        victim.kill()
        with workers[1].lease("door").held(2):
            pass


def test_never_two_hold_however_they_are_killed(workers: tuple[Redis, Redis]) -> None:
    chance, inside, fences, wrong = random.Random(5), [0], [], []
    leases = [client.lease("door", ttl_seconds=2) for client in workers]

    def work(lease: Lease) -> None:
        while True:
            with lease.held() as held:
                inside[0] += 1
                try:
                    if inside[0] != 1 or (fences and held.fence <= fences[-1]):
                        wrong.append((inside[0], held.fence))
                    fences.append(held.fence)
                    green.sleep(chance.random() * 0.004)
                finally:
                    inside[0] -= 1

    crowd = [green.spawn(work, lease) for lease in leases for _ in range(4)]
    for _ in range(100):
        green.sleep(chance.random() * 0.01)
        victim = chance.randrange(len(crowd))
        crowd[victim].kill()
        crowd[victim] = green.spawn(work, chance.choice(leases))
    for one in crowd:
        one.kill()
    assert wrong == [] and len(fences) > 30
    assert all("0 waiting" in repr(lease) for lease in leases)


def test_a_dead_holder_keeps_the_lease_for_its_time_only(workers: tuple[Redis, Redis]) -> None:
    workers[0].set("lease:{door}", "somebody who is gone", px=200)
    with workers[1].lease("door").held(5) as held:
        assert held.fence > 0


def test_a_loss_is_told_at_the_next_check_and_at_the_end(workers: tuple[Redis, Redis], caplog: pytest.LogCaptureFixture) -> None:
    lease = workers[0].lease("door", ttl_seconds=0.15)
    with caplog.at_level(logging.ERROR, "nucleon.redis"), pytest.raises(LeaseLost), lease.held() as held:
        first = held.fence
        workers[0].delete("lease:{door}")
        eventually(lambda: held.is_lost)
        with pytest.raises(LeaseLost):
            held.check()
        with workers[1].lease("door").held(1) as next_held:
            assert next_held.fence > first
    assert "is lost while its block is running" in caplog.text
    assert "1 lost" in repr(lease)


def test_a_loss_may_kill_the_block_and_nothing_else(workers: tuple[Redis, Redis]) -> None:
    lease = workers[0].lease("door", ttl_seconds=0.15, on_loss="kill")
    after: list[str] = []

    def work() -> None:
        with pytest.raises(LeaseLost), lease.held():
            workers[0].delete("lease:{door}")
            green.sleep(30)
        green.sleep(0.3)
        after.append("the greenlet lives on")

    green.spawn(work).get(timeout=5)
    assert after


def test_a_holder_cut_off_from_redis_knows_that_its_lease_ran_out(redis_server: Any) -> None:
    with TcpProxy(redis_server.address) as proxy:
        host, port = proxy.address
        cut_off, other = Redis(url=Secret(f"redis://{host}:{port}"), socket_seconds=0.1), Redis(url=Secret(redis_server.url))
        with pytest.raises(LeaseLost), cut_off.lease("door", ttl_seconds=0.4).held() as held:
            proxy.blackhole()
            with other.lease("door").held(5) as next_held:
                assert held.remaining() == 0, "the next holder came while the first still felt safe"
                assert next_held.fence > held.fence
            with pytest.raises(LeaseLost):
                held.check()
            proxy.pass_through()
        cut_off.stop()
        other.stop()


def test_a_restart_without_data_never_turns_the_fences_back(redis_server: Any) -> None:
    redis = Redis(url=Secret(redis_server.url))
    with redis.lease("door").held() as held:
        first = held.fence
    redis.flushall()
    redis_server.restart()
    with redis.lease("door").held() as held:
        assert held.fence > first
    redis_server.stop()
    with pytest.raises(Unavailable), redis.lease("door").held(1):
        pass
    redis.stop()


@pytest.mark.parametrize("options", [{"ttl_seconds": 0}, {"on_loss": "hope"}])
def test_leases_that_make_no_sense_are_refused(workers: tuple[Redis, Redis], options: dict[str, Any]) -> None:
    with pytest.raises(SetupError):
        workers[0].lease("door", **options)


def test_those_who_wait_stand_in_one_line_though_each_made_the_lease_anew(workers: tuple[Redis, Redis]) -> None:
    """As the docs write it: `with cache.lease("door").held()` in each request."""
    one, other = workers
    inside: list[int] = []

    def work(number: int) -> None:
        with one.lease("door").held(20):
            inside.append(number)

    with other.lease("door").held():
        crowd = [green.spawn(work, number) for number in range(50)]
        eventually(lambda: one.pubsub_numsub("lease:{door}:free")[0][1])
        before = one.calls
    for waiting in crowd:
        waiting.get(timeout=20)
    assert len(inside) == 50
    assert one.calls - before <= 50 * 3
    assert not one._lines, "a line goes with the last who stood in it"


@pytest.mark.parametrize("on_loss", ["check", "kill"])
def test_a_key_that_holds_something_else_is_a_loss_and_hides_no_error(
    workers: tuple[Redis, Redis], on_loss: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lease = workers[0].lease("door", ttl_seconds=0.3, on_loss=on_loss)

    def work() -> None:
        with lease.held() as held:
            workers[0].delete(held.key)
            workers[0].lpush(held.key, "not a lease")
            eventually(lambda: held.is_lost)
            raise KeyError("of the block")

    with pytest.raises(LeaseLost if on_loss == "kill" else KeyError):
        green.spawn(work).get(timeout=5)
    assert "is lost while its block is running" in caplog.text
    assert "WRONGTYPE" in caplog.text


def test_a_user_who_may_not_publish_gives_a_lease_back(redis_server: Any) -> None:
    admin = Redis(url=Secret(redis_server.url))
    admin.acl_setuser("app", enabled=True, nopass=True, commands=["+@all"], keys=["*"], reset_channels=True)
    user = Redis(url=Secret(redis_server.url.replace("unix://", "unix://app:any@")))
    with user.lease("door").held():
        assert admin.exists("lease:{door}")
    assert not admin.exists("lease:{door}")
    user.stop()
    admin.stop()


def test_a_lease_is_not_renewed_by_a_child_that_its_holder_left_behind(workers: tuple[Redis, Redis]) -> None:
    holder = os.fork()
    if holder == 0:
        with workers[0].lease("door", ttl_seconds=0.3).held():
            child = os.fork()
            if child == 0:
                green.sleep(30)
                os._exit(0)
            workers[0].rpush("child", child)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(holder, 0)
    try:
        with workers[1].lease("door").held(3) as held:
            held.check()
    finally:
        os.kill(int(workers[1].lpop("child")), signal.SIGKILL)


@pytest.mark.parametrize("patience", [0, -1, float("nan")])
def test_no_patience_is_no_wait(workers: tuple[Redis, Redis], patience: float) -> None:
    with workers[0].lease("door").held(), green.deadline(5), pytest.raises(LeaseTaken), workers[1].lease("door").held(patience):
        pass
