# C types for request.py; the code itself is there, and runs without this file.
import cython
from nucleon.http.native cimport number

cdef class Request:
    cdef public bytes _body
    cdef public object _headers
    cdef public str _id
    cdef public dict _state
    cdef public object body_reader
    cdef public str client
    cdef public object deadline_at
    cdef public dict fields
    cdef public str method
    cdef public dict params
    cdef public str path
    cdef public str query_string
    cdef public object route
    cdef public str scheme
    cdef public str version

    cpdef object begin(self)
    cpdef bytes body(self, object limit_bytes=*)
    @cython.locals(length="long long")
    cdef bytes _read_at_most(self, object reader, Py_ssize_t limit_bytes)
