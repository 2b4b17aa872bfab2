# C types for call.py; the code itself is there, and runs without this file.
import cython
from nucleon.binding.scanning cimport decoded
from nucleon.message.request cimport Request

cdef class Call:
    cdef public dict _cookies
    cdef public dict _form
    cdef public dict _query
    cdef public list cleanups
    cdef public object error
    cdef public bint is_cut_off
    cdef public object limit_bytes
    cdef public Request request

    cpdef object begin(self, Request request, object limit_bytes)
    cpdef dict query(self)

@cython.locals(fields=dict, is_plain=bint, part=str, at=Py_ssize_t, name=str, value=str, values=list)
cpdef dict fields_from(str text, str place)
