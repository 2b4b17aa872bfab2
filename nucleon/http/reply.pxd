# C types for reply.py; the code itself is there, and runs without this file.
import cython
from nucleon.http.native cimport second

cdef class Clock:
    cdef public long long second
    cdef public bytes line

@cython.final
cdef class ReplyName:
    cdef public str name
    cdef public int kind
    cdef public dict lines
    cpdef bytes line(self, object value)

@cython.final
cdef class Reply:
    cdef public list parts
    cdef public Py_ssize_t framing
    cdef public bint keep_alive

cdef Clock _CLOCK
cdef dict _NAMES
cdef list _FIRST_LINES
cdef list _LENGTH_LINES

@cython.locals(now="long long")
cpdef bytes date_line()

cpdef bint is_bodiless(int status) noexcept

@cython.locals(line=bytes, parts=list, declared=Py_ssize_t, known=ReplyName, reply=Reply)
cpdef Reply compose(int status, object headers, Py_ssize_t body_bytes, int minor, bint to_head, bint keep_alive)

@cython.locals(parts=list, length=Py_ssize_t)
cdef object _frame(Reply reply, int status, Py_ssize_t declared, Py_ssize_t body_bytes, int minor, bint to_head)

@cython.locals(line=bytes)
cdef bytes _length_line(Py_ssize_t length)

@cython.locals(length=Py_ssize_t, digit=int, letter=Py_UCS4, value=str)
cdef Py_ssize_t _length_from(object value) except -1

@cython.locals(known=ReplyName)
cdef ReplyName _name_from(object name)
