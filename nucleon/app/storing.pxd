# C types for answers that are kept; the code itself is in storing.py, and runs without this file.
import cython

@cython.freelist(8)
cdef class Loading:
    cdef public object mine, proceed, request
