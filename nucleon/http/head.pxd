# C types for the loops of head.py; the code itself is there, and runs without this file.
import cython

@cython.locals(octets="const unsigned char *", token="const unsigned char *", allowed="const unsigned char *", at=Py_ssize_t, target_at=Py_ssize_t, line_end=Py_ssize_t)
cpdef object parse_head(bytes data, Py_ssize_t start, Py_ssize_t end, object limits)

@cython.locals(
    octets="const unsigned char *", token="const unsigned char *", allowed="const unsigned char *", fields=dict, at=Py_ssize_t,
    begin=Py_ssize_t, value_at=Py_ssize_t, value_end=Py_ssize_t, count=Py_ssize_t, longest=Py_ssize_t, most=Py_ssize_t, word=bytes,
)
cpdef dict parse_fields(bytes data, Py_ssize_t start, Py_ssize_t end, object limits)
