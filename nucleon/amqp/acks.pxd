# C types for acks.py, which every delivery and every acknowledgement passes; the code is there, and runs without this file.
cdef class Acks:
    cdef public object _number
    cdef public dict _open
    cdef public list _unsent

    cpdef object delivered(self, object tag)
    cpdef Py_ssize_t add(self, object tag) except -1
    cpdef object forget(self, object tag)
    cpdef bytes collected(self)
