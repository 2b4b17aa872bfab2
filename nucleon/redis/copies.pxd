# C types for replies kept in this process; the code itself is in copies.py, and runs without this file.
import cython
from nucleon.http.native cimport now
from nucleon.redis.link cimport Link
from nucleon.green.thread_numbers cimport thread_number

cdef double _HEARD

cdef class Made:
    cdef public object by, value
    cdef public double fresh_until

cdef class Copy:
    cdef public Copies owner
    cdef public bytes name, key
    cdef public double asked_at, ends
    cdef public Link link
    cdef public Made made
    cdef public Copy before, after
    cdef public tuple words
    cdef public object reply
    cdef public Py_ssize_t size
    cdef public long long thread
    cdef public bint is_forgotten

    @cython.locals(link=Link, instant=double)
    cpdef bint counts(self) except -1
    cpdef object given(self)

cdef class Copies:
    cdef public Py_ssize_t most_bytes, most_entries, bytes, hits, misses, forgotten
    cdef public object prefixes, encoding
    cdef public double seconds
    cdef public dict _kept, _by_words, _places
    cdef public Copy _oldest, _newest

    @cython.locals(copy=Copy)
    cpdef Copy find(self, object name)
    @cython.locals(copy=Copy)
    cpdef Copy said(self, tuple words)
    cpdef object touch(self, Copy copy)
    cdef object _put_last(self, Copy copy)
    @cython.locals(before=Copy, after=Copy)
    cdef object _take_out(self, Copy copy)
