import queue
import time

import pytest

from nucleon import green
from nucleon.errors import DeadlineExceeded


def test_an_event_wakes_all_who_wait() -> None:
    event = green.Event()
    waiters = [green.spawn(event.wait, 5) for _ in range(3)]
    green.sleep(0)
    event.set()
    assert [waiter.get() for waiter in waiters] == [True, True, True]
    assert event.is_set()
    event.clear()
    assert not event.is_set()


def test_an_event_tells_its_own_timeout_from_the_deadline() -> None:
    event = green.Event()
    assert event.wait(0.01) is False
    with green.deadline(0.01), pytest.raises(DeadlineExceeded):
        event.wait(5)
    with green.deadline(0.01), pytest.raises(DeadlineExceeded):
        event.wait()


def test_a_lock_is_given_in_order_of_arrival() -> None:
    lock, order = green.Lock(), []

    def enter(name: int) -> None:
        with lock:
            order.append(name)

    lock.acquire()
    waiters = [green.spawn(enter, name) for name in range(3)]
    green.sleep(0)
    assert lock.locked()
    lock.release()
    for waiter in waiters:
        waiter.get()
    assert order == [0, 1, 2]


def test_a_greenlet_killed_while_it_waits_for_a_lock_leaves_it_to_the_others() -> None:
    lock = green.Lock()
    lock.acquire()
    killed = green.spawn(lock.acquire)
    next_one = green.spawn(lock.acquire)
    green.sleep(0)
    killed.kill()
    lock.release()
    assert next_one.get() is True


def test_a_lock_is_not_waited_for_beyond_the_deadline() -> None:
    lock = green.Lock()
    lock.acquire()
    assert lock.acquire(0.01) is False
    with green.deadline(0.01), pytest.raises(DeadlineExceeded):
        lock.acquire()


def test_a_queue_is_bounded_on_both_ends() -> None:
    items: green.Queue[int] = green.Queue(1)
    items.put(1)
    assert len(items) == 1
    with pytest.raises(queue.Full):
        items.put(2, timeout_seconds=0.01)
    with pytest.raises(queue.Full):
        items.put_nowait(2)
    assert items.get() == 1
    with pytest.raises(queue.Empty):
        items.get(timeout_seconds=0.01)
    with pytest.raises(queue.Empty):
        items.get_nowait()
    with green.deadline(0.01), pytest.raises(DeadlineExceeded):
        items.get()
    with pytest.raises(ValueError, match="bound"):
        green.Queue(0)


def test_a_native_thread_does_not_hold_up_other_greenlets() -> None:
    ticks = []

    def tick() -> None:
        while len(ticks) < 3:
            ticks.append(1)
            green.sleep(0)

    ticker = green.spawn(tick)
    assert green.in_thread(sum, [1, 2]) == 3
    ticker.get()


def test_a_native_thread_is_not_waited_for_beyond_the_deadline() -> None:
    from gevent.monkey import get_original

    native_sleep = get_original("time", "sleep")
    started = time.monotonic()
    with green.deadline(0.05), pytest.raises(DeadlineExceeded):
        green.in_thread(native_sleep, 1)
    assert time.monotonic() - started < 0.9


def test_a_free_native_thread_is_not_waited_for_beyond_the_deadline_either() -> None:
    import gevent
    from gevent.monkey import get_original

    pool = gevent.get_hub().threadpool
    busy = [pool.spawn(get_original("time", "sleep"), 0.5) for _ in range(pool.maxsize)]
    started = time.monotonic()
    with green.deadline(0.05), pytest.raises(DeadlineExceeded):
        green.in_thread(int)
    assert time.monotonic() - started < 0.4
    gevent.joinall(busy)
