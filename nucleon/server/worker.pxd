# C types for worker.py; the code itself is there, and runs without this file.
import cython
from nucleon.green.threads cimport Thread
from nucleon.server.connection cimport Connection
from nucleon.server.core cimport Core
from nucleon.server.exchange cimport run_exchange
from nucleon.server.poller cimport Poller
from nucleon.server.wire cimport enter_context, leave_context

cdef int BUSY, CLOSED, READING

cdef class Worker:
    cdef public Connection connection
    cdef public Core core
    cdef public object greenlet
    cdef public set workers

    @cython.locals(core=Core, poller=Poller, thread=Thread)
    cpdef object run(self, Connection connection)
    @cython.locals(count=Py_ssize_t)
    cdef object _serve(self, Connection connection)
    @cython.locals(found=bint)
    cdef bint _has_next(self, Connection connection) except -1
    @cython.locals(keep_alive=bint)
    cdef bint _answered(self, Connection connection) except -1
    cdef object _send_held(self, Connection connection)
