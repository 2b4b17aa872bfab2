# C types for scanning.pyx.

cpdef Py_ssize_t value_start(str text, str name) except -9
cpdef Py_ssize_t value_end(str text, Py_ssize_t start) except -9
cpdef str decoded(str text)
cpdef long long number_in(str text, Py_ssize_t start, Py_ssize_t end) except -9
