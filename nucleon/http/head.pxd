# C types for head.py; the code itself is there, and runs without this file.
import cython
from nucleon.http.fields cimport Fields, read_fields
from nucleon.http.malformed cimport Limits
from nucleon.http.native cimport begins, number

@cython.final
cdef class RequestHead(Fields):
    cdef public str method
    cdef public str path
    cdef public str query
    cdef public int minor
    cdef public long long content_length
    cdef public Py_ssize_t size
    cdef public bint chunked
    cdef public bint keep_alive
    cdef public bint expects_continue
    cdef public bint is_for_tls
    cdef public bytes data
    cdef public Py_ssize_t target_at
    cdef public Py_ssize_t target_end

    cpdef object begin(self, dict fields)

cdef bytes PATH, TARGET, TOKEN
cdef dict _HOSTS
cdef dict _METHODS

cpdef Py_ssize_t head_end(bytes data, Py_ssize_t start, Py_ssize_t seen, Limits limits) except -2
cpdef Py_ssize_t skip_empty_line(bytes data, Py_ssize_t start) except -1

@cython.locals(
    octets="const unsigned char *", token="const unsigned char *", allowed="const unsigned char *",
    allowed_in_path="const unsigned char *", at=Py_ssize_t, target_at=Py_ssize_t, path_end=Py_ssize_t, marks=int, is_newer=bint,
    word=bytes, method=str, path=str, head=RequestHead,
)
cpdef RequestHead parse_head(bytes data, Py_ssize_t start, Py_ssize_t end, Limits limits, dict environ=*)

@cython.locals(host=str)
cdef object _read_semantics(RequestHead head)
