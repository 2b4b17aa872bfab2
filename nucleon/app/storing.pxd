# C types for answers that are kept; the code itself is in storing.py, and runs without this file.
import cython
from nucleon.app.inside cimport Visit
from nucleon.message.request cimport Request
from nucleon.message.response cimport Response

cdef class Loading:
    cdef public object mine, proceed
    cdef public Request request

cdef class Storing:
    cdef object _client_seconds, _get_or, _key_of, _store
    cdef dict _keys

    @cython.locals(request=Request, loading=Loading, method=str)
    cpdef object answer(self, Visit visit, object proceed)
    @cython.locals(key=str)
    cdef str _key(self, str path)
    @cython.locals(response=Response, headers=list)
    cdef object _given(self, object stored, Request request)
