"""Memory that is freed stays for the next request, up to a bound."""

import os
import subprocess
import sys

from nucleon.process import keep_freed_memory

ROUNDS = """
import resource, sys
from nucleon.process import keep_freed_memory
assert keep_freed_memory() == (sys.argv[1] == "kept")
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytes(range(256)) * 40_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str, **environment: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", ROUNDS, word], check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return int(ran.stdout)


def test_blocks_of_megabytes_are_made_of_the_same_pages_again() -> None:
    pages = 10_240_000 // os.sysconf("SC_PAGE_SIZE")
    assert faults("kept") < 3 * pages
    assert faults("as told", MALLOC_MMAP_THRESHOLD_="1048576") > 15 * pages


def test_what_the_environment_says_about_malloc_goes_first() -> None:
    assert not keep_freed_memory({"MALLOC_TRIM_THRESHOLD_": "1000000"})
    assert not keep_freed_memory({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})
