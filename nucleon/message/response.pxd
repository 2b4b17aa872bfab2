# C types for response.py; the code itself is there, and runs without this file.

cdef class Response:
    cdef public object body
    cdef public object status
    cdef public list headers
    cdef public object on_close

    cpdef object begin_with(self, bytes body, object status, list headers)
    cpdef bint needs_closing(self) except -1
