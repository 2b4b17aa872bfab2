cpdef tuple accept(object listener)

cdef class Wire:
    cdef readonly int fd
    cdef readonly bint is_reset
    cpdef bytes receive(self)
    cpdef Py_ssize_t send(self, bytes data, Py_ssize_t start) except -1
    cpdef Py_ssize_t send_both(self, bytes head, bytes body) except -1
    cpdef object end(self)
    cpdef object close(self)

cpdef object enter_context()
cpdef object leave_context(object context)
