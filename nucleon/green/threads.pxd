# C types for threads.py; the code itself is there, and runs without this file.
import cython

cdef object _to

cdef class Turn:
    cpdef bint others_follow(self) except -1
    cpdef object pass_on(self)

@cython.final
cdef class Thread:
    cdef public Turn turn

    @cython.locals(turn=Turn)
    cpdef object leave(self, object hub)
