# C types for what every command runs through; the code itself is in shared.py, and runs without this file.
import cython
from nucleon.redis.multiplexer cimport Multiplexer

cdef object pack

cdef class Plan:
    cdef public object callback
    cdef public tuple words
    cdef public bint is_kept, is_one_word, is_own, is_pairs, is_read, may_wait

cdef class SharedCommands:
    cdef public object name, _callbacks, _copies
    cdef public Py_ssize_t calls, failures, _large_bytes
    cdef public Multiplexer _multiplexer
    cdef public dict _plans
    cdef public str _prefix

    @cython.locals(plan=Plan, data=bytes)
    cpdef object _answer(self, tuple args, dict options)
    cpdef Plan _plan(self, tuple args)
    cpdef object _answer_beside_copies(self, Plan plan, tuple args, bytes data, object raws)
    cpdef object _kept(self, tuple args, bytes data, object raws)
