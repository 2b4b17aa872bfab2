"""Both twins number native threads, and never give a number again."""

import importlib.util
from pathlib import Path
from types import ModuleType

from gevent.threadpool import ThreadPool

from nucleon.green import thread_numbers


def interpreted() -> ModuleType:
    file = Path(thread_numbers.__file__).parent / "thread_numbers.py"
    found = importlib.util.spec_from_file_location("thread_numbers_interpreted", file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_number_of_a_thread_is_its_own() -> None:
    for number in (thread_numbers.thread_number, interpreted().thread_number):
        seen = [number()]
        for _ in range(5):
            pool = ThreadPool(1)
            first, again = pool.spawn(number).get(timeout=5), pool.spawn(number).get(timeout=5)
            assert first == again
            seen.append(first)
            pool.kill()
        assert number() == seen[0]
        assert len(set(seen)) == len(seen)
