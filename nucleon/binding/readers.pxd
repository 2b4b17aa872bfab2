# C types for readers.py; the code itself is there, and runs without this file.
import cython
from nucleon.binding.call cimport Call
from nucleon.binding.scanning cimport number_in, value_end, value_start

cdef int ABSENT, UNSURE

@cython.final
cdef class Scalar:
    cdef public object convert
    cdef public object default
    cdef public bint is_int
    cdef public bint is_path
    cdef public bint is_required
    cdef public bint is_str
    cdef public str name
    cdef public object otherwise

    @cython.locals(text=str, start=Py_ssize_t)
    cpdef object read(self, Call call)
    @cython.locals(number="long long")
    cdef object _value(self, str text, Py_ssize_t start, Py_ssize_t end)
