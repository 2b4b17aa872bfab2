# C types for what every use of a thing runs through; the code itself is in lending.py, and runs without this file.
import cython
from nucleon.pool.slot cimport Slot, Waiter

cdef class Pool:
    cdef object __weakref__
    cdef public object name, limits, closed_by_reason
    cdef public Py_ssize_t created
    cdef public object _close, _is_alive, _check, _reset, _waiters, _waits, _opening, _keeper
    cdef public list _idle
    cdef public set _used
    cdef public bint _serving, _stopped
    cdef public double _validate_after
    cdef public bint _reports_leaks

    @cython.locals(slot=Slot, now=double)
    cpdef Slot take(self)
    @cython.locals(now=double)
    cpdef object give_back(self, Slot slot, object broken=*, bint clean=*)
    cpdef Slot _lend(self, Slot slot, object holder, double now)
    @cython.locals(slot=Slot, started=double, ends=double, served=bint, first=bint)
    cpdef Slot _take_slowly(self)
    @cython.locals(now=double)
    cpdef Slot _next(self, double ends, bint first)
    @cython.locals(now=double, alive=bint)
    cpdef bint _proven(self, Slot slot, double ends) except -1
    @cython.locals(waiter=Waiter)
    cpdef Slot _wait(self, double ends, bint first)
    @cython.locals(slot=Slot)
    cpdef object _refuse_self_deadlock(self)
    cpdef object _offer(self, Slot slot, double now)
    @cython.locals(slot=Slot, waiter=Waiter)
    cpdef object _serve(self)
    cpdef object _open_as_needed(self)
    cpdef object _the_waits(self)
    @cython.locals(slot=Slot, now=double)
    cpdef object _drop_dead(self)
