# C types for what a request with steps before its handler makes; the code itself is in answering.py, and runs without this file.
import cython
from nucleon.binding.call cimport Call
from nucleon.message.request cimport Request
from nucleon.message.response cimport Response

@cython.freelist(8)
cdef class Passage:
    cdef object _plan, _answer, _call, _values
