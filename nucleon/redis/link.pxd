# C types for the path of every command through link.py; the code itself is there, and runs without this file.
import cython
from nucleon.green.thread_numbers cimport thread_number
from nucleon.green.threads cimport Thread, Turn
from nucleon.redis.calls cimport Call, CallQueue
from nucleon.redis.replies cimport Replies

cdef int ANSWERED, LATE, LOST, TOO_LARGE, UNSENT, WAITING
cdef int WRITE_COMMANDS, WRITE_REPLIES
cdef object NOBODY, _to, _deadline

cdef class Link(Turn):
    cdef public CallQueue calls, ready
    cdef public Replies replies
    cdef public object connection, ended, roomy, why, hub, loop, peek, pending, recv_into, send, reader, feed, gets, has_more, view, left
    cdef public Thread thread
    cdef public long long thread_number
    cdef public object copies, timer, read_watcher, write_watcher
    cdef public bytearray buffer
    cdef public list out
    cdef public bint is_lost, is_retired, is_scheduled, is_blocked, is_clean, is_inside, is_plain, is_text
    cdef public Py_ssize_t reply_bytes, most_calls, most_bytes, reserved, reserved_bytes, unsent, bytes, partial, kept, typical
    cdef public double patience, received_at, timer_at

    cpdef bint has_room(self, Py_ssize_t size) except -1
    cpdef bint may_take(self, Py_ssize_t size) except -1
    @cython.locals(ends=double, by_deadline=bint, is_idle=bint, call=Call, turn=Turn)
    cpdef object ask(self, object data, Py_ssize_t wanted, object raws, double now, object copy=*, bint pairs=*)
    @cython.locals(call=Call)
    cpdef object error_of(self, Call call)
    cpdef bint is_stuck(self) except -1
    @cython.locals(out=list, sent=Py_ssize_t)
    cpdef object send_out(self)
    cpdef bint is_worth_a_write(self) except -1
    cpdef object flush(self)
    @cython.locals(count=Py_ssize_t)
    cpdef object readable(self)
    @cython.locals(start=Py_ssize_t, asked=Py_ssize_t)
    cpdef object take(self, Py_ssize_t count)
    @cython.locals(start=Py_ssize_t, call=Call, calls=CallQueue, replies=Replies)
    cpdef Py_ssize_t take_plain(self, Py_ssize_t count) except -1
    @cython.locals(call=Call, calls=CallQueue)
    cpdef object take_inside(self)
    @cython.locals(call=Call)
    cpdef object answer(self, object reply)
    @cython.locals(before=Turn, is_taken=bint)
    cpdef object drain(self, Py_ssize_t count=*)
    @cython.locals(call=Call, ready=CallQueue)
    cpdef object pass_on(self)
    cpdef bint others_follow(self) except -1
    cpdef object taken(self, bint is_decoded)
    cpdef object wake(self, Call call)
    cpdef object lose(self, object why)
