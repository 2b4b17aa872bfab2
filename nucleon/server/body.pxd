# C types for body.py; the code itself is there, and runs without this file.
import cython
from nucleon.http.chunks cimport ChunkedDecoder
from nucleon.http.native cimport now
from nucleon.http.head cimport RequestHead
from nucleon.server.connection cimport Connection
from nucleon.server.wire cimport Block

cdef Py_ssize_t _AHEAD_BYTES, _CHUNKS_BYTES, _TURN_BYTES

cdef class Body:
    cdef public Connection _connection
    cdef public ChunkedDecoder _decoder
    cdef public bytes _held
    cdef public long long _left
    cdef public bint _owes_continue
    cdef public Py_ssize_t _turn_bytes
    cdef public object broken
    cdef public long long received_bytes
    cdef public double waited_seconds
    cdef public double waits_since

    @cython.locals(held=bytes, most=Py_ssize_t, wanted=Py_ssize_t)
    cpdef bytes read(self, Py_ssize_t size=*)
    @cython.locals(connection=Connection, data=bytes)
    cdef bytes _taken(self, Py_ssize_t wanted)
    @cython.locals(connection=Connection, held=bytes, decoder=ChunkedDecoder, pending=Py_ssize_t, block=Block)
    cdef bytes _received(self, Py_ssize_t wanted, Py_ssize_t most, bint is_all)
    @cython.locals(connection=Connection, data=bytes, count=Py_ssize_t)
    cdef Py_ssize_t _receive(self, Block block) except -1
    @cython.locals(start=Py_ssize_t)
    cdef object _receive_chunks(self, Block block, ChunkedDecoder decoder)
    cdef object _take_note(self, Py_ssize_t count)
    @cython.locals(connection=Connection, data=bytes, decoder=ChunkedDecoder, have=Py_ssize_t)
    cpdef bint is_finished(self) except -1
    cpdef bint is_late(self, double instant) except -1
