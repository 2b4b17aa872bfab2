# C types for wsgi.py; the code itself is there, and runs without this file.
import cython
from nucleon.http.head cimport RequestHead
from nucleon.message.response cimport Response

cdef dict _STATUSES
cdef tuple _DEFAULT_AUTHORITY

cdef class Start:
    cdef public dict _environ
    cdef public str _id
    cdef public int status
    cdef public list headers
    cdef public bint sent
    cdef public list written
    cdef public object early
    cdef public object wire

cdef class Input:
    cdef public bytes _held
    cdef public object _reader

@cython.locals(authority=tuple)
cpdef object finish_environ(dict environ, RequestHead head, str client, str scheme, object body)

cdef str _path_info(str path)

@cython.locals(response=Response)
cpdef Response respond_to(object application, dict environ, Start start)
