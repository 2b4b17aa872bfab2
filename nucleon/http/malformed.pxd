# C types for malformed.py; the code itself is there, and runs without this file.
cdef class Limits:
    cdef public Py_ssize_t request_line_bytes
    cdef public Py_ssize_t field_bytes
    cdef public Py_ssize_t fields
    cdef public Py_ssize_t head_bytes
    cdef public Py_ssize_t chunk_extension_bytes
    cdef public Py_ssize_t body_bytes
