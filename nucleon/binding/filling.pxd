# C types for filling.py; the code itself is there, and runs without this file.
import cython
from nucleon.binding.call cimport Call
from nucleon.binding.readers cimport Scalar

cdef class Plan:
    cdef public tuple arguments
    cdef public object function
    cdef public object guard_slot
    cdef public bint is_in_order
    cdef public dict keywords
    cdef public list parameters
    cdef public list stages
    cdef public bint takes_request
    cdef public list template

    @cython.locals(values=list)
    cpdef object run(self, Call call)

@cython.locals(index=Py_ssize_t, reading=tuple, providing=tuple, scalar=Scalar)
cdef object _fill(list stages, Call call, list values)
