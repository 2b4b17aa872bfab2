# C types for body.py; the code itself is there, and runs without this file.
import cython
from nucleon.http.native cimport now
from nucleon.http.head cimport RequestHead
from nucleon.server.connection cimport Connection
from nucleon.server.wire cimport Block

cdef Py_ssize_t _TURN_BYTES

cdef class Body:
    cdef public Connection _connection
    cdef public object _decoder
    cdef public bytes _held
    cdef public long long _left
    cdef public bint _owes_continue
    cdef public Py_ssize_t _turn_bytes
    cdef public object broken
    cdef public long long received_bytes
    cdef public double waited_seconds
    cdef public double waits_since

    @cython.locals(have=Py_ssize_t, data=bytes, piece=bytes)
    cpdef bytes read(self, Py_ssize_t size=*)
    @cython.locals(connection=Connection, data=bytes, have=Py_ssize_t, block=Block)
    cdef bytes _read_known(self, Py_ssize_t size)
    @cython.locals(connection=Connection, count=Py_ssize_t)
    cdef object _fill(self, Block block)
    cdef object _take_note(self, Py_ssize_t count)
    cpdef bint is_finished(self) except -1
    cpdef bint is_late(self, double instant) except -1
    cdef bint _ended(self) except -1
    @cython.locals(connection=Connection, piece=bytes)
    cdef bytes _more(self)
    @cython.locals(connection=Connection, data=bytes, piece=bytes)
    cdef bytes _decode(self)
