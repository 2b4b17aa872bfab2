"""The number of this thread, by Python's C interface: what `thread_numbers.py` does interpreted, for a fiftieth of the instructions."""

cdef extern from "Python.h":
    ctypedef struct PyThreadState
    PyThreadState *PyThreadState_Get() nogil
    unsigned long long PyThreadState_GetID(PyThreadState *state) nogil


cpdef long long thread_number() noexcept:
    """Return a number that this thread has for as long as it lives, and no other one before or after it."""
    return <long long>PyThreadState_GetID(PyThreadState_Get())
