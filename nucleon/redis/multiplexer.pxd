# C types for which connection carries a command; the code itself is in multiplexer.py, and runs without this file.
import cython
from nucleon.green.thread_numbers cimport thread_number
from nucleon.http.native cimport now
from nucleon.redis.link cimport Link

cdef class Multiplexer:
    cdef object __weakref__
    cdef public object settings, copies, name, _old, _connect, _attempt, _lost_at, _line
    cdef public list links
    cdef public long long thread
    cdef public Link _current
    cdef public Py_ssize_t opened, _failures
    cdef public double _next_try_at

    @cython.locals(began=double, link=Link, asks=Py_ssize_t)
    cpdef object ask(self, bytes data, Py_ssize_t wanted=*, object raws=*, bint is_read=*, object copy=*, bint pairs=*)
    cpdef bint is_elsewhere(self) except -1
