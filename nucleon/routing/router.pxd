# C types for router.py; the code itself is there, and runs without this file.
import cython

@cython.final
cdef class _Node:
    cdef public dict methods
    cdef public _Node parameter
    cdef public _Node rest
    cdef public dict static

@cython.locals(child=_Node, segment=str)
cdef object _search(_Node node, list segments, Py_ssize_t at, str method, list values, set allow)
