# C types for poller.py; the code itself is there, and runs without this file.
import cython
from nucleon.server.connection cimport Connection
from nucleon.server.wire cimport Edges

cdef int READING

cdef class Poller:
    cdef public Py_ssize_t _at
    cdef public list _connections
    cdef public Py_ssize_t _count
    cdef public Edges _edges
    cdef public object _io
    cdef public bint _is_turning
    cdef public object _loop

    cpdef object add(self, int fd, object connection)
    cpdef object again(self, int fd)
    cpdef object forget(self, int fd)
    @cython.locals(edges=Edges, at=Py_ssize_t, connection=Connection)
    cpdef object on_edges(self)
    @cython.locals(edges=Edges, at=Py_ssize_t, connection=Connection)
    cpdef Connection next_request(self)
