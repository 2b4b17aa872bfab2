# C types for what a request with steps before its handler makes; the code itself is in answering.py, and runs without this file.
import cython
from nucleon.app.inside cimport Visit
from nucleon.binding.call cimport Call
from nucleon.binding.filling cimport Plan
from nucleon.message.request cimport Request
from nucleon.message.response cimport Response

cdef class Passage:
    cdef object _answer
    cdef Plan _plan
    cdef Call _call
    cdef list _values

    cpdef object begin(self, Plan plan, object answer, Call call, list values)

@cython.locals(values=list, visit=Visit, passage=Passage)
cdef object _inside(Plan plan, object answer, object inside, Call call)
