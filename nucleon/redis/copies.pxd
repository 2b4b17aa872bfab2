# C types for replies kept in this process; the code itself is in copies.py, and runs without this file.

cdef class Copy:
    cdef public Copies owner
    cdef public bytes name, key
    cdef public double asked_at, ends
    cdef public object link, reply, made
    cdef public Py_ssize_t size
    cdef public bint is_forgotten

    cpdef bint counts(self) except -1
    cpdef object given(self)

cdef class Copies:
    cdef public Py_ssize_t most_bytes, most_entries, bytes, hits, misses, forgotten
    cdef public object prefixes, encoding, _kept
    cdef public double seconds
    cdef public dict _places

    cpdef Copy find(self, object name)
    cpdef object touch(self, Copy copy)
