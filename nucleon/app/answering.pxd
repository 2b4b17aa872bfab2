# C types for what a request with steps before its handler makes; the code itself is in answering.py, and runs without this file.
import cython

@cython.freelist(8)
cdef class Passage:
    cdef object _plan, _answer, _call, _values
