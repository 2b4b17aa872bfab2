from cpython.object cimport PyObject
from nucleon.http.chunks cimport ChunkedDecoder

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        unsigned int events
        epoll_data_t data
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    int epoll_wait(int, epoll_event *, int, int)
    const int EPOLL_CLOEXEC
    const int EPOLL_CTL_ADD
    const int EPOLL_CTL_MOD
    const unsigned int EPOLLIN
    const unsigned int EPOLLRDHUP
    const unsigned int EPOLLHUP
    const unsigned int EPOLLERR
    const unsigned int EPOLLET

cdef enum:
    EDGES = 128

cpdef tuple accept(object listener)

cdef class Wire:
    cdef readonly int fd
    cdef public bint is_drained
    cdef public bint is_ending
    cdef public bint is_plain
    cdef readonly bint is_reset
    cpdef object begin(self, int fd, int family)
    cpdef bytes receive(self)
    cdef Py_ssize_t receive_at(self, char *place, Py_ssize_t size) except -2
    cpdef Py_ssize_t receive_into(self, object place) except -2
    cpdef bytes rest(self)
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
    cdef object _grow(self)
    cpdef Py_ssize_t add(self, bytes data) except -1
    cpdef Py_ssize_t receive(self, Wire wire, Py_ssize_t most) except -2
    cpdef object unframe(self, ChunkedDecoder decoder, Py_ssize_t start)
    cpdef bytes cut(self, Py_ssize_t size)
    cpdef bytes take(self)

cdef class Edges:
    cdef readonly int fd
    cdef epoll_event _events[EDGES]
    cdef int _change(self, int how, int fd) except -1
    cpdef object add(self, int fd)
    cpdef object again(self, int fd)
    cpdef Py_ssize_t wait(self) except -1
    cpdef int descriptor(self, Py_ssize_t at) noexcept
    cpdef bint is_end(self, Py_ssize_t at) noexcept
    cpdef object close(self)

cpdef object enter_context()
cpdef object leave_context(object context)
