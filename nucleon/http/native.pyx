"""Clocks and comparisons by the C library: what `native.py` does interpreted."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp, memmove
from libc.time cimport time
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)
    const char *PyUnicode_1BYTE_DATA(object)


cpdef double now() noexcept:
    """Return the instant of the monotonic clock, in seconds: that of `time.monotonic()`."""
    cdef timespec instant
    clock_gettime(CLOCK_MONOTONIC, &instant)
    return instant.tv_sec + instant.tv_nsec * 1e-9


cpdef long long second() noexcept:
    """Return the second of the wall clock."""
    return time(NULL)


cpdef long long number(str text) except -2:
    """Return the number that at most 18 digits write; -1 for any other text."""
    cdef const char *letters
    cdef long long found = 0
    cdef Py_ssize_t at
    if not 0 < PyUnicode_GET_LENGTH(text) < 19 or not PyUnicode_IS_ASCII(text):
        return -1
    letters = PyUnicode_1BYTE_DATA(text)
    for at in range(PyUnicode_GET_LENGTH(text)):
        if letters[at] < c"0" or letters[at] > c"9":
            return -1
        found = found * 10 + (letters[at] - c"0")
    return found


cpdef bint begins(bytes data, Py_ssize_t at, bytes word) noexcept:
    """Tell whether `data[at:]` begins with a word."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(word)
    return size <= PyBytes_GET_SIZE(data) - at and memcmp(PyBytes_AS_STRING(data) + at, PyBytes_AS_STRING(word), size) == 0


cpdef bint ends(bytes data, bytes word) noexcept:
    """Tell whether data ends with a word."""
    cdef Py_ssize_t at = PyBytes_GET_SIZE(data) - PyBytes_GET_SIZE(word)
    return at >= 0 and memcmp(PyBytes_AS_STRING(data) + at, PyBytes_AS_STRING(word), PyBytes_GET_SIZE(word)) == 0


cpdef object move(object place, Py_ssize_t to, Py_ssize_t at, Py_ssize_t count):
    """Move `count` bytes inside of `place`, from `at` to `to`; the places may overlap."""
    cdef char *octets = place
    memmove(octets + to, octets + at, count)
