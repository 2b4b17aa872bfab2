# C types for commands on their way; the code itself is in calls.py, and runs without this file.
import cython

cdef class Call:
    cdef public Call next
    cdef public Py_ssize_t size, wanted
    cdef public object raws, reply, greenlet, copy
    cdef public list replies
    cdef public double began, ends
    cdef public bint by_deadline, is_plain, pairs
    cdef public int fate

@cython.final
cdef class CallQueue:
    cdef public Call first, last
    cdef public Py_ssize_t count

    cpdef object append(self, Call call)
    cpdef Call popleft(self)
