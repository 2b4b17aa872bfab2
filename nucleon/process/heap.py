"""What the C library's malloc does with memory that a worker has freed."""

import ctypes
import os
from collections.abc import Mapping

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
MAPPED_BYTES = 32 * 1_048_576
KEPT_BYTES = 4 * MAPPED_BYTES


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Let malloc keep up to 128 MiB at the end of its heap, and take blocks below 32 MiB from there; tell whether it does.

    glibc comes to 32 and 64 MiB by itself once a block of 32 MiB has been freed (mallopt(3), M_MMAP_THRESHOLD). Until then each body of
    megabytes is made of new pages and given back: four times the cost of receiving it. Settings of malloc in the environment go first.
    """
    if any(name.startswith("MALLOC_") and name.endswith("_THRESHOLD_") for name in environment):
        return False
    if "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc; other C libraries have other ways
    return mallopt is not None and mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES) == 1 and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES) == 1
