# C types for answers of routes that this worker gives without asking Redis; the code itself is in answers.py, and runs without this file.
import cython
from nucleon.redis.copies cimport Copies, Copy, Made

cdef class Answers:
    cdef public object _cache, _copy_of, by, client_seconds, clock, local_seconds, maximum_local
    cdef public dict _asking, _copies, _held
    cdef public Py_ssize_t hits

    cpdef object get_or(self, str key, object load)
    @cython.locals(copy=Copy, local=Made, made=Made, owner=Copies, is_ours=bint)
    cdef object _here(self, str key)
