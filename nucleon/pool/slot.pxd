# C types for what is lent; the code itself is in slot.py, and runs without this file.

cdef class Slot:
    cdef public object condemned, holder, stack, thing, work
    cdef public double expires_at, idle_since, taken_at, turn_began
    cdef public Py_ssize_t generation, turn_of
    cdef public bint leak_told, touched

    cpdef object begin_turn(self, object holder, double now)
    cpdef bint is_turn_of(self, object taker, double now) except -1

cdef class Waiter:
    cdef public object error, greenlet, turn
    cdef public Slot slot
