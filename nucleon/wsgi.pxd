# C types for wsgi.py; the code itself is there, and runs without this file.
import cython
from nucleon.http.head cimport RequestHead
from nucleon.message.response cimport Response

cdef dict _STATUSES
cdef tuple _DEFAULT_AUTHORITY

@cython.final
cdef class Start(Response):
    cdef public dict _environ
    cdef public str _id
    cdef public bint sent
    cdef public list written
    cdef public object early
    cdef public object wire

    cpdef object begin(self, dict environ)
    cpdef object write(self, object data)

@cython.final
cdef class Input:
    cdef public bytes _held
    cdef public object _reader

@cython.locals(authority=tuple)
cpdef object finish_environ(dict environ, RequestHead head, str client, str scheme, object body)

cdef str _path_info(str path)

cpdef Response respond_to(object application, dict environ, Start start)
