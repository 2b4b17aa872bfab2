"""Clocks by the C library: what `clock.py` does interpreted."""
from libc.time cimport time
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec


cpdef double now() noexcept:
    """Return the instant of the monotonic clock, in seconds: that of `time.monotonic()`."""
    cdef timespec instant
    clock_gettime(CLOCK_MONOTONIC, &instant)
    return instant.tv_sec + instant.tv_nsec * 1e-9


cpdef long long second() noexcept:
    """Return the second of the wall clock."""
    return time(NULL)
