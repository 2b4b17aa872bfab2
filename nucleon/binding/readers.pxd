# C types for readers.py; the code itself is there, and runs without this file.

cpdef bint is_number(str text) except -1
