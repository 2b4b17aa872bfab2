# C types for a request that auth has let in; the code itself is in inside.py, and runs without this file.
from nucleon.message.request cimport Request

cdef class Visit:
    cdef public object limit_bytes, user
    cdef public Request request

    cpdef object begin(self, Request request, object user, object limit_bytes)
