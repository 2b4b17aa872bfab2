# C types for what every command runs through; the code itself is in shared.py, and runs without this file.
import cython
from nucleon.redis.copies cimport Copies, Copy
from nucleon.redis.multiplexer cimport Multiplexer

cdef object pack

cdef class Plan:
    cdef public object callback
    cdef public tuple words
    cdef public bint is_kept, is_one_word, is_own, is_pairs, is_read, may_wait

cdef bint are_text(tuple args) except -1

cdef class SharedCommands:
    cdef public object name, _callbacks
    cdef public Copies _copies
    cdef public Py_ssize_t calls, failures, _large_bytes
    cdef public Multiplexer _multiplexer
    cdef public dict _plans
    cdef public str _prefix

    @cython.locals(plan=Plan, data=bytes)
    cdef object _answer(self, tuple args, dict options, tuple words)
    cpdef Plan _plan(self, tuple args)
    cdef object _answer_beside_copies(self, Plan plan, tuple args, bytes data, object raws, tuple words)
    @cython.locals(copies=Copies, copy=Copy)
    cdef object _kept(self, Plan plan, tuple args, bytes data, object raws, tuple words)
