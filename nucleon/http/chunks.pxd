# C types for chunks.py; the code itself is there, and runs without this file.
import cython
from nucleon.http.malformed cimport Limits
from nucleon.http.native cimport move

cdef bytes DIGIT
cdef int _SIZE, _DATA, _DATA_CR, _DATA_LF, _TRAILERS, _DONE

cdef class ChunkedDecoder:
    cdef public Py_ssize_t _extension_bytes
    cdef public long long _left
    cdef public Limits _limits
    cdef public bytes _line
    cdef public int _state
    cdef public long long _total
    cdef public bint done
    cdef public Py_ssize_t head_bytes
    cdef public bytes rest

    cpdef bytes receive(self, bytes data)
    @cython.locals(octets="const unsigned char *", to=Py_ssize_t, take=Py_ssize_t)
    cpdef Py_ssize_t unframe(self, object place, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(octets="const unsigned char *", digit="const unsigned char *", here=Py_ssize_t, last=Py_ssize_t, size="long long")
    cdef Py_ssize_t _size_line(self, object place, Py_ssize_t at, Py_ssize_t end) except -1
    cdef Py_ssize_t _odd_size_line(self, object place, Py_ssize_t at, Py_ssize_t end) except -1
    cdef object _begin_chunk(self, long long size)
    cdef Py_ssize_t _trailers(self, object place, Py_ssize_t at, Py_ssize_t end) except -1
