# C types for router.py; the code itself is there, and runs without this file.
import cython

@cython.final
cdef class Match:
    cdef public dict params
    cdef public object route

@cython.final
cdef class Node:
    cdef public dict methods
    cdef public Node parameter
    cdef public Node rest
    cdef public dict static

@cython.locals(here=dict, segments=list, values=list, params=dict, at=Py_ssize_t, hit=tuple, match=Match)
cpdef object found_in(Node root, dict static, str method, str path)

@cython.locals(child=Node, segment=str, hit=tuple)
cdef tuple _search(Node node, list segments, Py_ssize_t at, str method, list values, set allow)
