from cpython.object cimport PyObject

cpdef tuple accept(object listener)

cdef class Wire:
    cdef readonly int fd
    cdef public bint is_plain
    cdef readonly bint is_reset
    cpdef object begin(self, int fd, int family)
    cpdef bytes receive(self)
    cpdef Py_ssize_t send(self, bytes data, Py_ssize_t start) except -1
    cpdef Py_ssize_t send_last(self, bytes data) except -1
    cpdef Py_ssize_t send_both(self, bytes head, bytes body) except -1
    cpdef object end(self)
    cpdef object close(self)

cdef class Block:
    cdef PyObject *_data
    cdef Py_ssize_t _room
    cdef readonly Py_ssize_t filled
    cdef readonly Py_ssize_t size
    cpdef object add(self, bytes data)
    cpdef Py_ssize_t receive(self, Wire wire) except -2
    cpdef bytes take(self)

cpdef object enter_context()
cpdef object leave_context(object context)
