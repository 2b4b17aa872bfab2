# C types for front.py; the code itself is there, and runs without this file.
import cython
from nucleon.message.request cimport Request
from nucleon.message.response cimport Response
from nucleon.routing.router cimport Match, Node, found_in

cdef object _request_ended, _set_identity

cdef class Front:
    cdef public list around
    cdef public object compiling
    cdef public object elsewhere
    cdef public object observed
    cdef public Node root
    cdef public dict static

    cpdef object use(self, object router)
    cpdef object respond(self, Request request)
    @cython.locals(match=Match, fields=dict)
    cpdef object dispatch(self, Request request)
