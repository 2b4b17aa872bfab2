# C types for connection.py; the code itself is there, and runs without this file.
import cython
from nucleon.http.head cimport RequestHead, head_end, parse_head, skip_empty_line
from nucleon.http.malformed cimport Limits
from nucleon.http.native cimport ends, now
from nucleon.server.core cimport Core
from nucleon.server.wire cimport Wire

cdef int READING, BUSY, LINGERING, CLOSED
cdef Py_ssize_t _LINGER_BYTES, _HELD_BYTES
cdef object _to

cdef class Connection:
    cdef public Py_ssize_t _dropped_bytes
    cdef public Py_ssize_t _head_seen
    cdef public bint _is_watched
    cdef public bint _paused
    cdef public Py_ssize_t _slow_bytes
    cdef public Py_ssize_t _slow_ticks
    cdef public object early
    cdef public bint is_events
    cdef public object body
    cdef public bint eof
    cdef public RequestHead head
    cdef public bytes held
    cdef public bint is_idle
    cdef public bint late
    cdef public bint may_hold
    cdef public double overdue_at
    cdef public str peer
    cdef public bytes pending
    cdef public str scheme
    cdef public Core server
    cdef public Py_ssize_t since
    cdef public int state
    cdef public object waiting
    cdef public Wire wire
    cdef public object worker

    cpdef object begin_with(self, Core server, Wire wire, str peer, str scheme)
    cpdef object open(self)
    @cython.locals(sent=Py_ssize_t)
    cpdef object send_last(self, bytes data)
    @cython.locals(data=bytes)
    cpdef object on_readable(self)
    cdef object _take(self, bytes data)
    @cython.locals(data=bytes, has_begun=bint)
    cpdef bint take_request(self) except -1
    @cython.locals(core=Core)
    cdef bint _has_begun(self, bytes data) except -1
    cdef object _read_on(self)
    cdef object _watch(self)
    cpdef object give_way(self)
    cpdef object linger(self)
    cpdef object close(self)
    @cython.locals(head=RequestHead, is_last=bint)
    cpdef object finish(self)
    @cython.locals(data=bytes, core=Core, limits=Limits, start=Py_ssize_t, end=Py_ssize_t, head=RequestHead)
    cpdef bint next_head(self) except -1
    @cython.locals(core=Core)
    cdef object _dispatch(self)
    @cython.locals(last=Connection)
    cpdef object release(self)
    @cython.locals(core=Core, seconds=double)
    cpdef object begin(self)
    @cython.locals(sent=Py_ssize_t)
    cpdef object send(self, bytes data)
    @cython.locals(sent=Py_ssize_t)
    cpdef object send_both(self, bytes head, bytes body)
    cpdef bint hold(self, bytes data) except -1
    cpdef object resume(self)
    cdef object _await_head(self)
    @cython.locals(core=Core, waited=Py_ssize_t)
    cpdef object sweep(self, double instant)

@cython.locals(wire=Wire, connection=Connection)
cpdef object open_plain(Core core, int fd, int family, str peer)
