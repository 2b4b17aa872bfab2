"""Both twins number native threads, and never give a number again."""


from gevent.threadpool import ThreadPool
from twins import interpreted

from nucleon.green import thread_numbers


def test_the_number_of_a_thread_is_its_own() -> None:
    for number in (thread_numbers.thread_number, interpreted(thread_numbers).thread_number):
        seen = [number()]
        for _ in range(5):
            pool = ThreadPool(1)
            first, again = pool.spawn(number).get(timeout=5), pool.spawn(number).get(timeout=5)
            assert first == again
            seen.append(first)
            pool.kill()
        assert number() == seen[0]
        assert len(set(seen)) == len(seen)
