# C types for door.py; the code itself is there, and runs without this file.
import cython
from nucleon.server.connection cimport open_plain
from nucleon.server.core cimport Core
from nucleon.server.wire cimport accept

cdef int ACCEPT_BATCH

cdef class Door:
    cdef public Core _core
    cdef public object _listener
    cdef public object _watcher
    cdef public object _welcome
    cdef public int family

    @cython.locals(core=Core, client=tuple)
    cpdef object accept(self)
