# C types for poller.py; the code itself is there, and runs without this file.
import cython
from nucleon.green.threads cimport Thread, Turn
from nucleon.server.connection cimport Connection
from nucleon.server.core cimport Core
from nucleon.server.wire cimport Edges

cdef int READING
cdef object NOBODY, _to

cdef class Poller(Turn):
    cdef public Py_ssize_t _at
    cdef public list _connections
    cdef public Py_ssize_t _count
    cdef public Edges _edges
    cdef public object _io
    cdef public Core _core
    cdef public Thread _thread

    cpdef object add(self, int fd, object connection)
    cpdef object again(self, int fd)
    cpdef object forget(self, int fd)
    @cython.locals(edges=Edges, at=Py_ssize_t, connection=Connection)
    cpdef object on_edges(self)
    @cython.locals(edges=Edges, at=Py_ssize_t, connection=Connection)
    cpdef Connection next_request(self)
    cpdef bint others_follow(self) except -1
    @cython.locals(core=Core, connection=Connection)
    cpdef object pass_on(self)
