# C types for fields.py; the code itself is there, and runs without this file.
import cython
from nucleon.http.malformed cimport Limits
from nucleon.http.native cimport begins

@cython.final
cdef class FieldName:
    cdef public bytes word
    cdef public Py_ssize_t size
    cdef public str name
    cdef public str variable
    cdef public int kind
    cdef public FieldName following
    cdef public bint is_kept

cdef class Fields:
    cdef public dict fields
    cdef public bint is_environ
    cdef public tuple authority
    cdef public str host
    cdef public str connection
    cdef public str length
    cdef public str coding
    cdef public str expectation
    cdef public str patience
    cpdef object begin_fields(self, dict fields)
    cpdef object take(self, int kind, str value)

cdef bytes TOKEN, VALUE
cdef FieldName _FIRST
cdef dict _NAMES

@cython.locals(
    octets="const unsigned char *", token="const unsigned char *", allowed="const unsigned char *", fields=dict, is_environ=bint,
    before=FieldName, found=FieldName, begin=Py_ssize_t, value_at=Py_ssize_t, value_end=Py_ssize_t, count=Py_ssize_t,
    longest=Py_ssize_t, most=Py_ssize_t, size=Py_ssize_t, key=str, value=str,
)
cpdef Py_ssize_t read_fields(Fields into, bytes data, Py_ssize_t at, Py_ssize_t end, Limits limits) except -1

@cython.locals(into=Fields)
cpdef dict parse_fields(bytes data, Py_ssize_t start, Py_ssize_t end, Limits limits)

@cython.locals(known=FieldName)
cdef FieldName _field_name(bytes word)
